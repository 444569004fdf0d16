"""The runtime directory: one control socket per mount, readable by its owner only."""

import hashlib
import os
import stat

from lazyfs.core.errors import UsageError


def directory() -> str:
    """The directory for this user's sockets, made with mode 0700 if need be.

    `LAZYFS_RUNTIME_DIR`, or /run/lazyfs for root, or lazyfs below XDG_RUNTIME_DIR or /tmp. Raises UsageError
    if somebody else owns it: who can write there could stand in for the daemon.
    """
    path = os.environ.get("LAZYFS_RUNTIME_DIR")
    if not path:
        user = os.geteuid()
        above = os.environ.get("XDG_RUNTIME_DIR")
        path = "/run/lazyfs" if user == 0 else f"{above}/lazyfs" if above else f"/tmp/lazyfs-{user}"  # noqa: S108
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        found = os.lstat(path)
    except OSError as error:
        raise UsageError(f"runtime directory {path}: {error.strerror}; set LAZYFS_RUNTIME_DIR") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        raise UsageError(f"runtime directory {path} can be written by others: chmod 0700, or set another")
    return path


def socket_path(mountpoint: str) -> str:
    """Where the daemon of a mount point listens. A hash, because socket paths end at 107 bytes."""
    name = hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:20]
    return os.path.join(directory(), f"{name}.sock")
