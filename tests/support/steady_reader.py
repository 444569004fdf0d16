"""A program that reads a mount until it is told to stop, and reports what it saw.

`steady_reader MOUNT SEED` looks up and reads files with the content `expected(image, number)`, past the page
cache. Its working directory is inside an image, and it holds one file open all the time. It stops when stdin
ends, and prints JSON: {"errors": [...], "rounds": N, "pause": SECONDS}.
"""

import hashlib
import json
import os
import random
import select
import sys
import time
from contextlib import suppress

SIZES = (100, 5_000, 70_000, 300_000)
FILES = 12


def expected(image: str, number: int) -> bytes:
    """Returns the content of the file `f<number>` of an image."""
    size = SIZES[number % len(SIZES)] + number
    return random.Random(f"{image} {number}").randbytes(size)


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    try:
        found = b"".join(iter(lambda: os.read(fd, 1 << 20), b""))
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return found
    finally:
        os.close(fd)


def main(mount: str, seed: int) -> None:
    """Reads until stdin ends, then prints the report."""
    choice = random.Random(seed)
    images = sorted(os.listdir(f"{mount}/lib"))
    sums = {(image, n): hashlib.sha256(expected(image, n)).digest() for image in images for n in range(FILES)}
    home = images[seed % len(images)]
    os.chdir(f"{mount}/lib/{home}")
    held = os.open("f3", os.O_RDONLY)
    errors: list[str] = []
    pause, rounds = 0.0, 0
    print("begun", flush=True)
    while not select.select([sys.stdin], [], [], 0.01)[0]:
        image, number = choice.choice(images), choice.randrange(FILES)
        began = time.monotonic()
        try:
            if hashlib.sha256(_read(f"{mount}/lib/{image}/f{number}")).digest() != sums[image, number]:
                errors.append(f"{image}/f{number}: wrong bytes")
            if hashlib.sha256(_read(f"f{number}")).digest() != sums[home, number]:
                errors.append(f"./f{number}: wrong bytes")
            if hashlib.sha256(os.pread(held, 1 << 20, 0)).digest() != sums[home, 3]:
                errors.append("the open file: wrong bytes")
            os.posix_fadvise(held, 0, 0, os.POSIX_FADV_DONTNEED)
            with suppress(FileNotFoundError):
                os.lstat(f"missing-{choice.random()}")
                errors.append("a missing name was found")
            if sorted(os.listdir(".")) != sorted(f"f{n}" for n in range(FILES)):
                errors.append("a wrong listing")
        except OSError as error:
            errors.append(str(error))
        pause = max(pause, time.monotonic() - began)
        rounds += 1
    print(json.dumps({"errors": errors[:20], "rounds": rounds, "pause": round(pause, 3)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
