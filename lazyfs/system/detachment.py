"""Gives up a process's access to keys and sockets of the caller, before the process becomes another
program."""

import ctypes
import errno
import os

from lazyfs.system.syscalls import interfaces

_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446  # the same on every architecture
_LANDLOCK_VERSION = 1
_SCOPE_ABSTRACT_SOCKETS = 1
_FIRST_WITH_SCOPE = 6
_PR_SET_NO_NEW_PRIVS = 38
_JOIN_SESSION_KEYRING = 1


class _RulesetAttributes(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


def leave_session_keyring() -> None:
    """Joins a new, empty session keyring, without the caller's Kerberos tickets and AFS tokens.

    Does nothing if no keyring can be made: the kernel has none, a container forbids the call, or the user has
    as many as the kernel grants.
    """
    for interface in interfaces()[:1]:
        _libc().syscall(ctypes.c_long(interface.keyctl), ctypes.c_long(_JOIN_SESSION_KEYRING), None)


def can_scope_sockets() -> bool:
    """Returns True if the kernel's Landlock can keep a process from abstract sockets (Linux 6.12)."""
    version = _libc().syscall(
        ctypes.c_long(_LANDLOCK_CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint32(_LANDLOCK_VERSION)
    )
    return bool(version >= _FIRST_WITH_SCOPE)


def leave_abstract_sockets() -> None:
    """Keeps this process and its children from abstract sockets of other processes, such as X11, D-Bus and
    container daemons. From then on the process gets no privileges from set-user-id files. Raises OSError."""
    libc = _libc()
    attributes = _RulesetAttributes(0, 0, _SCOPE_ABSTRACT_SOCKETS)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    rules = libc.syscall(
        ctypes.c_long(_LANDLOCK_CREATE_RULESET), ctypes.byref(attributes), size, ctypes.c_uint32(0)
    )
    if rules < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        no = ctypes.c_ulong(0)
        failed = libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), no, no, no) or libc.syscall(
            ctypes.c_long(_LANDLOCK_RESTRICT_SELF), ctypes.c_int(rules), ctypes.c_uint32(0)
        )
        if failed:
            raise OSError(ctypes.get_errno() or errno.EPERM, os.strerror(ctypes.get_errno()))
    finally:
        os.close(rules)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
