"""The workers' disks: filesystems made for the run, because the machine's own may be in an unusual state.

An ext4 without a journal, as a virtual machine may have, does not reuse an inode for up to five minutes after
it was deleted. It searches for another one inode by inode (`recently_deleted` in fs/ext4/ialloc.c). After
some images of 38,000 files had been unpacked and removed, unpacking the shell image took 0.22 s in the kernel
instead of 0.03 s.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from benchmarks.startup.images import BenchmarkImage

SIZE: Final = 20 << 30
"""Size of the disk on the machine's disk in bytes. It is a sparse file, which takes only the bytes
written."""
SIZE_IN_MEMORY: Final = 6 << 30
"""Size of the disk in memory in bytes. There is none if the machine has less than three times as much."""
SHARE: Final = 4
"""The disk in memory has room for this number of unpacked images. A side that makes a SIF file of the layers
keeps the layers, the tree and the file at once."""


def in_memory(unpacked_bytes: int, memory_bytes: int) -> bool:
    """Returns True if an image is started from a disk in memory, where the speed of the machine's disk does
    not decide which side is faster."""
    return memory_bytes >= 3 * SIZE_IN_MEMORY and unpacked_bytes * SHARE <= SIZE_IN_MEMORY


class Disks:
    """The disk in memory and the one on the machine's disk. Each is made when the first image needs it, and
    exists until the stack is closed."""

    def __init__(self, stack: ExitStack, work: Path) -> None:
        self._stack = stack
        self._work = work
        self._memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self._made: dict[bool, Path] = {}

    def in_memory(self, image: BenchmarkImage) -> bool:
        """Returns True if the image is started from the disk in memory."""
        return in_memory(image.unpacked_bytes, self._memory)

    def of(self, image: BenchmarkImage) -> Path:
        """Returns the mount point of the disk that the image is started from."""
        kind = self.in_memory(image)
        if kind not in self._made:
            made = _ram(self._work) if kind else _ext4(self._work / "disk.img", self._work / "disk", SIZE)
            self._made[kind] = self._stack.enter_context(made)
        return self._made[kind]


@contextmanager
def _ram(work: Path) -> Iterator[Path]:
    holder = work / "memory"
    holder.mkdir()
    options = f"size={SIZE_IN_MEMORY}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(holder)], check=True)
    try:
        # podman takes no directory whose path is longer than 50 characters
        with _ext4(holder / "disk.img", work / "ram", SIZE_IN_MEMORY * 15 // 16, direct=False) as place:
            yield place
    finally:
        subprocess.run(["umount", "--lazy", str(holder)], check=True)


@contextmanager
def _ext4(image: Path, place: Path, size: int, direct: bool = True) -> Iterator[Path]:
    """Mounts an ext4 with a journal at `place`, from the file `image`. If `direct`, the loop device bypasses
    the page cache, so that pages dropped from the ext4 are not still cached as pages of that file. A file in
    memory has no other pages than these."""
    with image.open("wb") as file:
        file.truncate(size)
    made = ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", str(image)]
    subprocess.run(made, check=True)
    place.mkdir()
    found = ["losetup", "--find", "--show", f"--direct-io={'on' if direct else 'off'}", str(image)]
    device = subprocess.run(found, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    try:
        subprocess.run(["mount", "-o", "discard", device, str(place)], check=True)
        try:
            place.chmod(0o755)
            yield place
        finally:
            subprocess.run(["umount", "--lazy", str(place)], check=True)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
