"""The worker's disk: a filesystem of its own, because the machine's may be in a state that no worker's is in.

An ext4 without a journal, as a virtual machine may have, does not give out an inode again for up to five
minutes after it was deleted, and looks for another one by one (`recently_deleted` in fs/ext4/ialloc.c). Once
some images of 38,000 files had been unpacked and removed, unpacking the shell image took 0.22 s in the kernel
instead of 0.03.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SIZE: Final = 16 << 30
"""Bytes, of which the file below takes what is written."""


@contextmanager
def disk(work: Path) -> Iterator[Path]:
    """An ext4 with a journal over a file in `work`; gives its directory. The loop device bypasses the page
    cache, so that what is dropped from memory above is not in memory below."""
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
