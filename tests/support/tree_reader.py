"""Reads files of a mount in a separate process and checks every byte; run it with `python -m`.

Arguments: a JSON file {path: SHA-256 in hex}, the number of threads, and seconds (0: each thread reads every
file once). Prints one JSON object: reads, failed (errors as text), wrong (paths), slowest (seconds).
"""

import hashlib
import json
import os
import random
import sys
import threading
import time
from pathlib import Path

LEAST = 400
"""The smallest number of reads in a timed run, however slow the machine is."""


class Reader:
    """Reads one set of files and counts the results; several threads may use it."""

    def __init__(self, digests: dict[str, str]) -> None:
        self._digests = digests
        self._lock = threading.Lock()
        self.reads = 0
        self.failed: list[str] = []
        self.wrong: list[str] = []
        self.slowest = 0.0

    def read(self, path: str) -> None:
        """Reads and checks one file, then drops it from the page cache."""
        began = time.monotonic()
        failure, digest = None, ""
        try:
            with open(path, "rb", buffering=0) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            failure = str(error)
        with self._lock:
            self.reads += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
            if failure:
                self.failed.append(failure)
            elif digest != self._digests[path]:
                self.wrong.append(path)

    def run(self, seed: int, seconds: float) -> None:
        """Does the work of one thread: reads files for `seconds`, in a random order drawn from `seed`. If
        `seconds` is 0, reads every file once."""
        paths = list(self._digests)
        if not seconds:
            for path in paths:
                self.read(path)
            return
        choice = random.Random(seed)
        until = time.monotonic() + seconds
        while time.monotonic() < until or self.reads < LEAST:
            self.read(choice.choice(paths))


def main() -> None:
    reader = Reader(json.loads(Path(sys.argv[1]).read_text()))
    threads = [
        threading.Thread(target=reader.run, args=(seed, float(sys.argv[3])))
        for seed in range(int(sys.argv[2]))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {name: getattr(reader, name) for name in ("reads", "failed", "wrong", "slowest")}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
