"""The runtime directory of a user, which holds the control socket of each of the user's mounts. Every user
may use root's sockets.

A socket is named by the mount's device number, which is the same in every mount namespace. Paths are not: two
namespaces may have different filesystems at one path, and one filesystem at several paths. The directory
depends on the user, not on the login session: a batch job may carry XDG_RUNTIME_DIR of another machine, and
the directory of a session is deleted at logout.
"""

import os
from collections.abc import Iterator

from lazyfs.core.errors import UsageError
from lazyfs.system.mount_table import Mount
from lazyfs.system.trusted_files import Untrusted, is_private_directory, open_directory
from lazyfs.system.user_namespace import is_root_of_node, outer_user

ROOTS = "/run/lazyfs"
"""The runtime directory of the user root, mode 0755."""


def directory() -> str:
    """Returns the directory for this user's sockets; makes it, with mode 0700, if it is missing.

    It is `LAZYFS_RUNTIME_DIR` if set; otherwise /run/lazyfs for root. For others it is /tmp/lazyfs-UID, or
    lazyfs below XDG_RUNTIME_DIR if another user has taken that name. Raises UsageError if none of them is
    this user's alone: another user who can write there could pose as the daemon.
    """
    reasons = []
    for path in _candidates():
        try:
            os.close(open_directory(path, make=True))
        except OSError as error:
            reasons.append(f"{path}: {error.strerror}")
            continue
        except Untrusted as error:
            reasons.append(str(error))
            continue
        if is_private_directory(path):
            if path == ROOTS and is_root_of_node():
                os.chmod(path, 0o755)  # noqa: S103 - the sockets in it are to be reached
            return path
        reasons.append(f"{path} can be written by others")
    raise UsageError(f"runtime directory {'; '.join(reasons)}: chmod 0700, or set LAZYFS_RUNTIME_DIR")


def socket_paths(mount: Mount) -> Iterator[str]:
    """Yields the paths at which the control socket of a mount's daemon may be, the likeliest first. Makes no
    file."""
    for path in dict.fromkeys((*_candidates(), ROOTS)):
        if is_private_directory(path):
            yield os.path.join(path, socket_name(mount))


def is_served_for_root(mount: Mount) -> bool:
    """Returns True if a daemon that root started serves the mount, also one that has become another user.

    Only root can make sockets in ROOTS, and the socket of a dead daemon answers nobody, so a user cannot pass
    a mount off as root's.
    """
    import socket  # 2 ms, which a start by path saves

    if not is_private_directory(ROOTS):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as asking:
        try:
            asking.connect(os.path.join(ROOTS, socket_name(mount)))
        except BlockingIOError:
            return True  # a daemon listens, but its queue of callers is full
        except OSError:
            return False
    return True


def socket_name(mount: Mount) -> str:
    """Returns the file name of a mount's socket."""
    return f"{mount.device.replace(':', '-')}.sock"


def _candidates() -> list[str]:
    given = os.environ.get("LAZYFS_RUNTIME_DIR")
    if given:
        return [given]
    if is_root_of_node():
        return [ROOTS]
    session = os.environ.get("XDG_RUNTIME_DIR")
    found = [f"/tmp/lazyfs-{outer_user(os.geteuid())}"]  # noqa: S108 - checked to be this user's
    return [*found, os.path.join(session, "lazyfs")] if session else found
