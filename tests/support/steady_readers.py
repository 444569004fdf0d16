"""Processes that read a mount all the time (tests/support/steady_reader.py), and what they saw."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.images import image, live
from tests.support.repository import Published
from tests.support.steady_reader import FILES, expected

PROGRAM = (sys.executable, "-m", "tests.support.steady_reader")
STILL = b"still"
"""The content of the file that no reader reads."""


def published_images(directory: Path, images: int) -> Published:
    """Publishes images whose files have the content that the readers expect, and the image `other/still:1`,
    which they leave alone."""
    found = Published(directory)
    made = {
        f"image:{number}": image(
            found.objects, {f"f{n}": expected(f"image:{number}", n) for n in range(FILES)}
        )
        for number in range(images)
    }
    still = {"still:1": image(found.objects, {"f": STILL})}
    found.commit(live(found.objects, {"lib": made, "other": still}))
    return found


@contextmanager
def readers(mnt: Path, count: int, program: Sequence[str] = PROGRAM) -> Iterator[list[dict[str, Any]]]:
    """Runs readers for the block. After the block, the yielded list has their reports. `program`: the start
    of a reader's command line."""
    pipe = subprocess.PIPE
    running = [
        subprocess.Popen([*program, str(mnt), str(seed)], stdin=pipe, stdout=pipe, text=True)
        for seed in range(count)
    ]
    found: list[dict[str, Any]] = []
    try:
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
        yield found
    finally:
        for process in running:
            said, _ = process.communicate("end", timeout=120)
            found.append(json.loads(said))


def no_error(found: Sequence[dict[str, Any]]) -> None:
    """Asserts that the readers read, and that none saw an error or a wrong byte. Prints their longest
    pauses."""
    pauses = sorted(reader["pause"] for reader in found)
    rounds = sum(reader["rounds"] for reader in found)
    print(f"\n{len(found)} readers, {rounds} rounds; each reader's longest round, of five calls or more:")
    print(f"{pauses[len(pauses) // 2]:.2f} s in the median, {pauses[-1]:.2f} s at most")
    assert [reader["errors"] for reader in found] == [[] for _ in found]
    assert all(reader["rounds"] > 1 for reader in found)
