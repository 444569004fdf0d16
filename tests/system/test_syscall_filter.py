"""The system call filters for architectures other than this machine's, run by an interpreter of classic
BPF."""

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.system import syscalls
from lazyfs.system.syscalls import Interface, isolation_filter

ALLOW, ERRNO = 0x7FFF0000, 0x00050000
X86_64, I386 = syscalls._X86_64, syscalls._I386
EVERY = [interface for known in syscalls._INTERFACES.values() for interface in known]


def answer(
    known: tuple[Interface, ...], audit: int, number: int, argument: int = 0, *, first: int = 0
) -> int:
    """Returns the filter's result for a system call; `argument` is the second argument of the call."""
    data = struct.pack("=IIQ6Q", number, audit, 0, first, argument, 0, 0, 0, 0)
    program = list(struct.iter_unpack("=HBBI", isolation_filter(known)))
    position, accumulator = 0, 0
    while True:
        code, if_true, if_false, value = program[position]
        position += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif code == 0x15:
            position += if_true if accumulator == value else if_false
        elif code == 0x35:
            position += if_true if accumulator >= value else if_false
        else:
            assert code == 0x06
            return int(value)


@pytest.mark.parametrize("interface", EVERY, ids=lambda interface: f"{interface.audit:x}")
def test_keys_and_terminals_are_refused_on_every_architecture(interface: Interface) -> None:
    for number in (interface.add_key, interface.request_key, interface.keyctl):
        assert answer((interface,), interface.audit, number) == ERRNO | errno.ENOSYS
    for request in (0x5412, 0x541C, 0x5412 | 1 << 32):  # the kernel reads only the lower 32 bits
        assert answer((interface,), interface.audit, interface.ioctl, request) == ERRNO | errno.EPERM
    assert answer((interface,), interface.audit, interface.ioctl, 0x5401) == ALLOW


@pytest.mark.parametrize("interface", EVERY, ids=lambda interface: f"{interface.audit:x}")
def test_the_standard_streams_keep_their_owner(interface: Interface) -> None:
    for number in interface.fchown:
        for stream in (0, 1, 2, 2 | 1 << 32):  # the kernel reads only the lower 32 bits
            assert answer((interface,), interface.audit, number, first=stream) == ERRNO | errno.EPERM
        for other in (3, 0xFFFFFFFF):
            assert answer((interface,), interface.audit, number, first=other) == ALLOW


def test_programs_of_32_bits_go_by_their_own_numbers() -> None:
    both = (X86_64, I386)
    assert answer(both, I386.audit, I386.keyctl) == ERRNO | errno.ENOSYS
    assert answer(both, I386.audit, I386.ioctl, 0x5412) == ERRNO | errno.EPERM
    assert answer(both, I386.audit, X86_64.keyctl) == ALLOW
    assert answer(both, X86_64.audit, I386.keyctl) == ALLOW


def test_the_x32_interface_of_the_same_architecture_is_refused_whole() -> None:
    for number in (X86_64.keyctl | 0x40000000, 0x40000000, 0xFFFFFFFF):
        assert answer((X86_64,), X86_64.audit, number) == ERRNO | errno.ENOSYS


@given(number=st.integers(0, 0x3FFFFFFF), argument=st.integers(0, (1 << 64) - 1))
def test_everything_else_is_allowed(number: int, argument: int) -> None:
    refused = (X86_64.add_key, X86_64.request_key, X86_64.keyctl, X86_64.ioctl, *X86_64.fchown)
    if number not in refused:
        assert answer((X86_64, I386), X86_64.audit, number, argument) == ALLOW
    assert answer((), X86_64.audit, number, argument) == ALLOW


def test_this_machine_is_known() -> None:
    assert syscalls.interfaces()
