"""Mounts that only this process and its children see; no privilege is needed."""

import ctypes
import os

_CLONE_NEWUSER, _CLONE_NEWNS = 0x10000000, 0x00020000
_READ_ONLY, _NOSUID, _NODEV = 1, 2, 4
_RECURSIVE, _PRIVATE = 1 << 14, 1 << 18


def enter_private_mounts() -> None:
    """Moves this process into a mount namespace of its own, whose mounts are seen nowhere else.

    A process without privileges enters a user namespace too, in which its user and group keep their numbers
    and it has all capabilities until it becomes another program. Raises OSError where that is forbidden.
    """
    libc = _libc()
    if os.geteuid() == 0 and libc.unshare(ctypes.c_int(_CLONE_NEWNS)) == 0:
        _checked(libc.mount(b"none", b"/", None, ctypes.c_ulong(_RECURSIVE | _PRIVATE), None), "/")
        return
    user, group = os.geteuid(), os.getegid()
    _checked(libc.unshare(ctypes.c_int(_CLONE_NEWUSER | _CLONE_NEWNS)), "user namespace")
    maps = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
    for name, content in maps.items():
        with open(f"/proc/self/{name}", "w") as file:
            file.write(content)


def mount_temporary(directory: int, mode: int) -> None:
    """Mounts an empty filesystem in memory over the directory of a descriptor. Raises OSError."""
    _mount(directory, "tmpfs", _NOSUID | _NODEV, f"mode={mode:04o}")


def mount_joined(directory: int, upper: int, lower: int) -> None:
    """Mounts over `directory` a read-only view of two directories: names of `upper` hide those of `lower`,
    and directories that both have are joined. All three are descriptors. Raises OSError."""
    layers = f"lowerdir=/proc/self/fd/{upper}:/proc/self/fd/{lower}"
    _mount(directory, "overlay", _READ_ONLY | _NOSUID | _NODEV, layers)


def _mount(directory: int, kind: str, flags: int, options: str) -> None:
    place = f"/proc/self/fd/{directory}".encode()
    name = kind.encode()
    _checked(_libc().mount(name, place, name, ctypes.c_ulong(flags), options.encode()), kind)


def _checked(failed: int, what: str) -> None:
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), what)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
