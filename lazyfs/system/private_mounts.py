"""Mounts that only this process and its children see; no privilege is needed."""

import os

from lazyfs.system import namespaces
from lazyfs.system.namespaces import NEW_MOUNTS, NEW_USER, NODEV, NOSUID, PRIVATE, READ_ONLY, RECURSIVE


def enter_private_mounts() -> None:
    """Moves this process into a mount namespace of its own, whose mounts are seen nowhere else.

    A process without privileges enters a user namespace too, in which its user and group keep their numbers
    and it has all capabilities until it becomes another program. Raises OSError where that is forbidden.
    """
    if os.geteuid() == 0:
        try:
            namespaces.unshare(NEW_MOUNTS)
        except OSError:
            pass  # root of a container may be without the capability
        else:
            namespaces.mount("none", "/", flags=RECURSIVE | PRIVATE)
            return
    numbers = os.geteuid(), os.getegid()
    try:
        namespaces.unshare(NEW_USER | NEW_MOUNTS)
    except OSError as error:
        raise OSError(error.errno, error.strerror, "user namespace") from None
    namespaces.map_numbers(numbers, numbers)


def mount_temporary(directory: int, mode: int) -> None:
    """Mounts an empty filesystem in memory over the directory that is open as the descriptor `directory`.
    Raises OSError."""
    _mount(directory, "tmpfs", NOSUID | NODEV, f"mode={mode:04o}")


def mount_joined(directory: int, upper: int, lower: int) -> None:
    """Mounts over `directory` a read-only view of two directories: names of `upper` hide those of `lower`,
    and directories that both have are joined. All three are descriptors, since an overlay's options cannot
    quote every path. Raises OSError."""
    layers = f"lowerdir=/proc/self/fd/{upper}:/proc/self/fd/{lower}"
    _mount(directory, "overlay", READ_ONLY | NOSUID | NODEV, layers)


def _mount(directory: int, kind: str, flags: int, options: str) -> None:
    try:
        namespaces.mount(kind, f"/proc/self/fd/{directory}", kind, flags, options)
    except OSError as error:  # the error would name a descriptor's number only
        raise OSError(error.errno, error.strerror, kind) from None
