"""A root filesystem that holds busybox alone."""

import shutil
from pathlib import Path


def busybox_root(root: Path, *names: str) -> Path:
    """Makes a root filesystem with bin/busybox, and a link to it in bin/ for each name; returns `root`. It
    has no /etc, /proc, /dev and /tmp."""
    (root / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for name in names:
        (root / "bin" / name).symlink_to("busybox")
    return root
