"""Bind mounts of files and directories, with restrictions such as read-only, nosuid and nodev."""

import ctypes
import os

from lazyfs.system import namespaces
from lazyfs.system.mountpoint import mounts

_OPTIONS = {
    "ro": namespaces.READ_ONLY,
    "nosuid": namespaces.NOSUID,
    "nodev": namespaces.NODEV,
    "noexec": namespaces.NOEXEC,
}
_SET_ATTRIBUTES = 442
"""The number of mount_setattr(2), which Linux has from 5.12, on every architecture but alpha."""
_RECURSIVE = 0x8000


class _Attributes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "user_namespace"))


def bind(source: str, target: str, *, read_only: bool, devices: bool) -> None:
    """Shows a file or directory, and all that is mounted below it, at another path; set-user-id files give no
    privileges there. `devices`: True if device files can be opened there. Raises OSError."""
    namespaces.mount(source, target, flags=namespaces.BIND | namespaces.RECURSIVE)
    flags = namespaces.NOSUID
    flags |= (namespaces.READ_ONLY if read_only else 0) | (0 if devices else namespaces.NODEV)
    restrict(target, flags)


def restrict(top: str, flags: int) -> None:
    """Adds flags (READ_ONLY, NOSUID, NODEV, NOEXEC) to every mount at and below a directory. A mount keeps
    the flags that it has already: in a user namespace they are locked. Raises OSError."""
    if not _set_attributes(top, flags):
        for mount in mounts():
            if f"{mount.mountpoint}/".startswith(f"{top.rstrip('/')}/"):
                kept = sum(_OPTIONS.get(option, 0) for option in mount.options.split(" ")[0].split(","))
                namespaces.mount(
                    "", mount.mountpoint, flags=namespaces.BIND | namespaces.REMOUNT | kept | flags
                )


def _set_attributes(top: str, flags: int) -> bool:
    """Sets the flags with one system call. The call does not enter the mounts below `top`, one of which may
    be dead. Returns False if nothing was changed, as on an older kernel, or because `top` is no mount
    point."""
    wanted = _Attributes(flags)  # the numbers of these four flags are those of mount(2)
    call = ctypes.CDLL(None, use_errno=True).syscall
    here = ctypes.c_int(-100)
    failed = call(
        ctypes.c_long(_SET_ATTRIBUTES),
        here,
        ctypes.c_char_p(os.fsencode(top)),
        ctypes.c_uint(_RECURSIVE),
        ctypes.byref(wanted),
        ctypes.c_size_t(ctypes.sizeof(wanted)),
    )
    return not failed
