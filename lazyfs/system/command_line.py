"""The command line of this process as other users see it in `ps` and /proc."""

import ctypes
import os
import re

_ACCOUNT = rb"://[^/|;\s\0]*@"
_QUERY = rb"(://[^?|;\s\0]*)\?[^|;\s\0]+"
_ARG_START, _ARG_END = 48, 49
"""Fields of /proc/self/stat, counted from 1; proc(5)."""


def hide_accounts() -> None:
    """Writes `***` over the user names, passwords and queries in URLs on the command line of this process,
    and so of the processes that it forks.

    Until this call everybody can see them. Those on the command line of the parent process stay visible. Does
    nothing if the kernel does not give the address of the command line.
    """
    start, length = _place()
    before = ctypes.string_at(start, length)
    after = without_accounts(before)
    if after != before:
        ctypes.memmove(start, after, length)


def show_as(name: str) -> None:
    """Shows `name` in place of this process's command line, cut to that line's length. Does nothing if the
    kernel does not give the address of the command line."""
    start, length = _place()
    ctypes.memmove(start, os.fsencode(name)[:length].ljust(length, b"\0"), length)


def _place() -> tuple[int, int]:
    """Returns (address, length) of the command line in this process's memory; (0, 0) if the kernel does not
    give the address."""
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # the third field is the first of these
    except OSError:  # a root directory without /proc, as that of an image that is being built
        return 0, 0
    start, end = int(fields[_ARG_START - 3]), int(fields[_ARG_END - 3])
    return (start, end - start) if start < end else (0, 0)


def without_accounts(line: bytes) -> bytes:
    """Returns the arguments, each ended by a NUL, with `***` for accounts and queries in URLs; the length is
    unchanged."""
    if b"://" not in line or (b"@" not in line and b"?" not in line):
        return line  # most command lines: the expressions are compiled only for others
    hidden = re.sub(_QUERY, rb"\1?***", re.sub(_ACCOUNT, b"://***@", line))
    return hidden[: len(line)].ljust(len(line), b"\0")
