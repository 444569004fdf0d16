"""System calls that Python does not have: their numbers, and a filter that refuses some of them."""

import errno
import os
import struct
import sys
from typing import NamedTuple

_TIOCSTI = 0x5412
_TIOCLINUX = 0x541C
_X32 = 0x40000000
"""Added to the numbers of the x32 interface, which shares its architecture with x86_64."""
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_ALLOWED = (_RETURN, 0, 0, _ALLOW)
_NUMBER, _ARCHITECTURE = 0, 4
_FIRST_ARGUMENT, _SECOND_ARGUMENT = (16, 24) if sys.byteorder == "little" else (20, 28)
"""Offsets of the lower halves of the call's first and second argument in seccomp_data (linux/seccomp.h)."""
_STREAMS = 3
"""The number of standard streams; they have the lowest descriptors."""


class Interface(NamedTuple):
    """One architecture's numbers (asm/unistd.h) and its name for seccomp (linux/audit.h)."""

    audit: int
    add_key: int
    request_key: int
    keyctl: int
    ioctl: int
    fchown: tuple[int, ...]
    """The numbers of fchown: with user ids of 32 bits and, on old interfaces, of 16 bits."""


_X86_64 = Interface(0xC000003E, 248, 249, 250, 16, (93,))
_I386 = Interface(0x40000003, 286, 287, 288, 54, (95, 207))
_AARCH64 = Interface(0xC00000B7, 217, 218, 219, 29, (55,))
_ARM = Interface(0x40000028, 309, 310, 311, 54, (95, 207))
_INTERFACES = {
    "x86_64": (_X86_64, _I386),
    "i686": (_I386,),
    "aarch64": (_AARCH64, _ARM),
    "armv7l": (_ARM,),
    "ppc64le": (Interface(0xC0000015, 269, 270, 271, 54, (95,)),),
    "riscv64": (Interface(0xC00000F3, 217, 218, 219, 29, (55,)),),
    "s390x": (Interface(0x80000016, 278, 279, 280, 54, (207,)),),
}


def interfaces() -> tuple[Interface, ...]:
    """Returns the interfaces that programs of this machine can use, this interpreter's first; an empty tuple
    on an unknown machine."""
    found = _INTERFACES.get(os.uname().machine, ())
    return found[::-1] if struct.calcsize("P") == 4 else found


def isolation_filter(known: tuple[Interface, ...]) -> bytes:
    """Returns a seccomp program (linux/seccomp.h) that refuses only the calls that reach past namespaces.

    Kernel keys belong to a user in all namespaces: a program could read by its number a key that the same
    user has outside. The calls on keys fail with ENOSYS, as on a kernel without keys. TIOCSTI and TIOCLINUX
    are refused because they put characters into a terminal that the program has open. The owner of a
    standard stream cannot be changed by its descriptor: crun and runc would give the caller's file or
    terminal to the program's user and group.
    """
    program = [(_LOAD, 0, 0, _ARCHITECTURE)]
    for interface in known:
        block = _block(interface)
        program += [(_EQUAL, 0, len(block), interface.audit), *block]
    program.append(_ALLOWED)
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _block(interface: Interface) -> list[tuple[int, int, int, int]]:
    block = [(_LOAD, 0, 0, _NUMBER)]
    if interface is _X86_64:
        block += [(_AT_LEAST, 0, 1, _X32), _refuse(errno.ENOSYS)]
    for number in (interface.add_key, interface.request_key, interface.keyctl):
        block += [(_EQUAL, 0, 1, number), _refuse(errno.ENOSYS)]
    streams = [(_LOAD, 0, 0, _FIRST_ARGUMENT), (_AT_LEAST, 1, 0, _STREAMS), _refuse(errno.EPERM), _ALLOWED]
    for number in interface.fchown:
        block += [(_EQUAL, 0, len(streams), number), *streams]
    requests = [(_LOAD, 0, 0, _SECOND_ARGUMENT)]
    for request in (_TIOCSTI, _TIOCLINUX):
        requests += [(_EQUAL, 0, 1, request), _refuse(errno.EPERM)]
    return [*block, (_EQUAL, 0, len(requests), interface.ioctl), *requests, _ALLOWED]


def _refuse(number: int) -> tuple[int, int, int, int]:
    return (_RETURN, 0, 0, _ERRNO | number)
