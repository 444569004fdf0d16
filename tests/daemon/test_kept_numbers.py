"""The inode numbers that a mount keeps for a successor: on a disk that is full, and beside another mount at
the same path."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.cli import lazyfs, mounted, status, successions
from tests.support.images import image, live
from tests.support.processes import gone
from tests.support.repository import Published
from tests.support.small_disks import mounted_disk
from tests.support.until import until

pytestmark = pytest.mark.root

IMAGES = 60
"""Their numbers take several pages of the journal's file: a full tmpfs has room in the last one."""
UNCACHED = ("--cache-limit", "0", "--patience", "5")


@pytest.fixture
def images(tmp_path: Path) -> Published:
    found = Published(tmp_path / "images")
    files = [{"f": b"%d" % number, "big": b"%09d" % number * 8000} for number in range(IMAGES)]
    found.commit(
        live(found.objects, {"lib": {f"{n}:1": image(found.objects, one) for n, one in enumerate(files)}})
    )
    return found


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with mounted_disk(tmp_path / "disk", "-t", "tmpfs", "-o", "size=1m,mode=0755", "tmpfs") as directory:
        yield directory


@contextmanager
def full(disk: Path) -> Iterator[None]:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        free = os.statvfs(disk).f_bavail
        while free:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size + free * 4096)
            free = os.statvfs(disk).f_bavail
    try:
        yield
    finally:
        filler.unlink()


def opened(mnt: Path, images: range) -> dict[int, int]:
    """Opens a file in each of these images without reading it; returns the descriptor by the image's
    number."""
    for number in images:
        os.stat(mnt / f"lib/{number}:1/big")  # large enough for a number that images share
    return {number: os.open(mnt / f"lib/{number}:1/f", os.O_RDONLY) for number in images}


def all_are_right(held: dict[int, int]) -> bool:
    """Reads and closes each file; returns True if each has its own content."""
    found = {number: os.pread(descriptor, 99, 0) for number, descriptor in held.items()}
    for descriptor in held.values():
        os.close(descriptor)
    return found == {number: b"%d" % number for number in held}


def kill(mnt: Path) -> None:
    before = status(mnt)
    os.kill(before["pid"], signal.SIGKILL)
    until(lambda: successions(mnt) > before["successions"])


def test_no_file_is_lost_or_another_one_because_the_disk_was_full_for_a_while(
    images: Published, disk: Path, tmp_path: Path
) -> None:
    """Regression: the journal was given up at its first error. A successor then gave the numbers of open
    files to files of other images."""
    with mounted(images.store, tmp_path / "mnt", "--cache", disk / "cache", *UNCACHED) as mnt:
        with full(disk):
            held = opened(mnt, range(IMAGES - 10))
            assert "No space left" in status(mnt)["journal"]
        until(lambda: status(mnt)["journal"] == "")
        kill(mnt)
        held |= opened(mnt, range(IMAGES - 10, IMAGES))
        assert all_are_right(held)


def test_successors_take_over_on_a_full_disk(images: Published, disk: Path, tmp_path: Path) -> None:
    with mounted(images.store, tmp_path / "mnt", "--cache", disk / "cache", *UNCACHED) as mnt, full(disk):
        held = opened(mnt, range(IMAGES - 20))
        kill(mnt)
        assert "No space left" in status(mnt)["journal"]
        held |= opened(mnt, range(IMAGES - 20, IMAGES - 10))
        lazyfs("reload", mnt)
        held |= opened(mnt, range(IMAGES - 10, IMAGES))
        kill(mnt)
        assert all_are_right(held)
        assert all_are_right(opened(mnt, range(IMAGES)))


def test_a_killed_daemon_leaves_the_numbers_of_a_later_mount_alone(images: Published, tmp_path: Path) -> None:
    """Regression: the successor of a mount that had been taken away while it was in use found the journal of
    the next mount at the same path, and answered by it."""
    mnt, options = tmp_path / "mnt", ("--cache", tmp_path / "cache", *UNCACHED)
    mnt.mkdir()
    lazyfs("mount", images.store, mnt, *options)
    (earlier,) = opened(mnt, range(1)).values()
    daemon = status(mnt)["pid"]
    lazyfs("umount", "--lazy", mnt)
    with mounted(images.store, mnt, *options):
        later = opened(mnt, range(1, 3))
        os.kill(daemon, signal.SIGKILL)
        until(lambda: gone(daemon))
        with pytest.raises(OSError, match="Input/output error"):
            os.pread(earlier, 99, 0)
        os.close(earlier)
        kill(mnt)
        assert all_are_right(later)
