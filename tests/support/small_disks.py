"""Small filesystems of one test, which it can fill up and break. Needs root."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def mounted_disk(directory: Path, *arguments: str) -> Iterator[Path]:
    directory.mkdir()
    subprocess.run(["mount", *arguments, str(directory)], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@contextmanager
def loop_ext4(base: Path, size: int) -> Iterator[Path]:
    """Makes an ext4 of `size` bytes in the file `disk` of `base`, and mounts it beside that file."""
    image = base / "disk"
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-m0", str(image)], check=True)
    with mounted_disk(base / "mnt", "-o", "loop,errors=remount-ro", str(image)) as directory:
        yield directory


def break_filesystem(image: Path) -> None:
    """Makes the kernel remount the filesystem read-only by itself, as it does after a failed journal
    write."""
    listed = subprocess.run(
        ["losetup", "-n", "-O", "NAME", "-j", str(image)], check=True, capture_output=True
    )
    device = Path(listed.stdout.decode().strip()).name
    Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("1")
