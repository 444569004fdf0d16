"""Namespaces, mounts and limits of this process by system calls that Python does not have."""

import ctypes
import errno
import fcntl
import os
import signal
import struct

NEW_MOUNTS, NEW_UTS, NEW_IPC, NEW_USER, NEW_PIDS, NEW_NETWORK = (
    0x00020000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
READ_ONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, MOVE, RECURSIVE = 1, 2, 4, 8, 32, 4096, 8192, 16384
PRIVATE, SLAVE = 1 << 18, 1 << 19
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_FILTER_MODE = 2
_DETACH = 2
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def unshare(flags: int) -> None:
    """Moves this process into new namespaces; NEW_PIDS moves not the process but its next child. Raises
    OSError."""
    _check(_libc().unshare(ctypes.c_int(flags)), "unshare")


def map_numbers(inner: tuple[int, int], outer: tuple[int, int], pid: int | None = None) -> None:
    """Maps the user and group of a process to other numbers in its new user namespace. `inner`: their numbers
    inside the namespace. `outer`: their numbers outside. `pid`: the process; None for this one. Raises
    OSError."""
    for name, content in (
        ("setgroups", "deny"),
        ("uid_map", f"{inner[0]} {outer[0]} 1"),
        ("gid_map", f"{inner[1]} {outer[1]} 1"),
    ):
        with open(f"/proc/{pid or 'self'}/{name}", "w") as file:
            file.write(content)


def become_in_user_namespace(flags: int, inner: tuple[int, int], outer: tuple[int, int]) -> None:
    """Turns a process of root into one of the user and group `outer`, and moves it into new namespaces, in
    which they have the numbers `inner`. Raises OSError.

    A child that stays root writes the numbers. The process itself cannot: a process that was root may not
    write its own files in /proc as the new user. For the same reason the new user cannot read the memory of
    this process, which may hold root's secrets.
    """
    pid = os.getpid()
    asked, ask = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(ask)
            if os.read(asked, 1):
                map_numbers(inner, outer, pid)
                os._exit(0)
        finally:
            os._exit(1)
    os.setgroups([])
    os.setresgid(outer[1], outer[1], outer[1])
    os.setresuid(outer[0], outer[0], outer[0])
    try:
        unshare(flags | NEW_USER)
        os.write(ask, b"x")
    finally:
        os.close(asked)
        os.close(ask)
        _, ended = os.waitpid(child, 0)
    if ended:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), f"/proc/{pid}/uid_map")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Calls mount(2). Raises OSError with the target's name."""
    encoded = [os.fsencode(text) if text else None for text in (source, target, kind)]
    failed = _libc().mount(*encoded, ctypes.c_ulong(flags), os.fsencode(options) if options else None)
    _check(failed, target)


def unmount(target: str) -> None:
    """Unmounts the topmost filesystem at a path, with all below it; programs that use it keep it. Raises
    OSError."""
    _check(_libc().umount2(os.fsencode(target), ctypes.c_int(_DETACH)), target)


def end_with_parent() -> None:
    """Asks the kernel to kill this process when its parent ends. A change of credentials cancels an earlier
    request."""
    _libc().prctl(ctypes.c_int(_PR_SET_PDEATHSIG), ctypes.c_ulong(signal.SIGKILL))


def give_up_new_privileges() -> None:
    """Keeps this process and its children from gaining privileges by set-user-id files and file
    capabilities."""
    no = ctypes.c_ulong(0)
    _check(_libc().prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), no, no, no), "no_new_privs")


def filter_calls(program: bytes) -> None:
    """Installs a seccomp program (`syscalls.isolation_filter`) for this process and its children. The process
    must have given up new privileges. Does nothing on a kernel without seccomp. Raises OSError."""
    described = _Program(len(program) // 8, program)
    no = ctypes.c_ulong(0)
    mode = ctypes.c_ulong(_FILTER_MODE)
    failed = _libc().prctl(_PR_SET_SECCOMP, mode, ctypes.byref(described), no, no)
    if failed and ctypes.get_errno() != errno.EINVAL:
        _check(failed, "seccomp")


def start_loopback() -> None:
    """Brings up the network interface `lo`, which is down in a new network namespace. Raises OSError."""
    import socket  # 2 ms, which most starts save

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        request = struct.pack("16sh22x", b"lo", 0)
        _, flags = struct.unpack("16sh22x", fcntl.ioctl(line, _SIOCGIFFLAGS, request))
        fcntl.ioctl(line, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | _IFF_UP))


def _check(failed: int, name: str) -> None:
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), name)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
