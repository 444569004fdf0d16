"""The worker's disk: a filesystem made for the run, because the machine's own may be in an unusual state.

An ext4 without a journal, as a virtual machine may have, does not reuse an inode for up to five minutes after
it was deleted. It searches for another one inode by inode (`recently_deleted` in fs/ext4/ialloc.c). After
some images of 38,000 files had been unpacked and removed, unpacking the shell image took 0.22 s in the kernel
instead of 0.03 s.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SIZE: Final = 16 << 30
"""Size of the filesystem in bytes. It lies in a sparse file, which takes only the bytes written."""


@contextmanager
def disk(work: Path) -> Iterator[Path]:
    """Mounts an ext4 with a journal from a file in `work`; yields its mount point. The loop device bypasses
    the page cache, so that pages dropped from the ext4 are not still cached as pages of that file."""
    image, place = work / "disk.img", work / "disk"
    with image.open("wb") as file:
        file.truncate(SIZE)
    made = ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", str(image)]
    subprocess.run(made, check=True)
    place.mkdir()
    found = ["losetup", "--find", "--show", "--direct-io=on", str(image)]
    device = subprocess.run(found, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    try:
        subprocess.run(["mount", device, str(place)], check=True)
        try:
            place.chmod(0o755)
            yield place
        finally:
            subprocess.run(["umount", "--lazy", str(place)], check=True)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
