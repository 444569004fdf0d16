"""The structures of the FUSE protocol, and the parsing of arbitrary bytes as requests."""

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.errors import UsageError
from lazyfs.fuse.wire import handshake, protocol, replies, requests
from lazyfs.vfs.attributes import Attributes

FOUND = Attributes(7 << 32 | 5, 0o104755, 2, 10, 20, 1025, -1_500_000_000, 0x501, 3 << 8 | 5)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("ATTR", 88), ("IN_HEADER", 40), ("OUT_HEADER", 16), ("ENTRY_OUT", 128), ("ATTR_OUT", 104),
        ("DIRENT", 24), ("DIRENTPLUS", 152), ("KSTATFS", 80), ("READ_IN", 40), ("INIT_OUT", 64),
        ("INVAL_INODE_OUT", 24), ("INVAL_ENTRY_OUT", 16), ("FORGET_ONE", 16), ("GETXATTR_IN", 8),
    ],
)  # fmt: skip
def test_structures_have_the_size_that_the_header_gives_them(name: str, size: int) -> None:
    assert getattr(protocol, name).size == size


def test_opcodes_have_their_names() -> None:
    assert protocol.OPCODE_NAMES[1] == "LOOKUP"
    assert protocol.OPCODE_NAMES[44] == "READDIRPLUS"
    assert protocol.OPCODE_NAMES[52] == "STATX"
    assert len(protocol.OPCODE_NAMES) == 50
    assert not any("VERSION" in name or "NEEDED" in name for name in protocol.OPCODE_NAMES.values())


def test_an_entry_as_the_kernel_reads_it() -> None:
    fields = protocol.ENTRY_OUT.unpack(replies.entry(FOUND))
    assert fields[:6] == (FOUND.number, 0, 0xFFFF_FFFF, 0xFFFF_FFFF, 0, 0)
    assert fields[6:9] == (FOUND.shown, 1025, 3)
    assert fields[9:15] == (-2, -2, -2, 500_000_000, 500_000_000, 500_000_000)
    assert fields[15:] == (0o104755, 2, 10, 20, 0x501, 4096, 0)


def test_a_missing_name_is_remembered() -> None:
    nodeid, _, valid, *_ = protocol.ENTRY_OUT.unpack(replies.MISSING_ENTRY)
    assert (nodeid, valid) == (0, 0xFFFF_FFFF)


@given(st.binary(min_size=1, max_size=255))
def test_lines_of_a_directory_are_aligned_and_complete(name: bytes) -> None:
    line = replies.direntplus(FOUND, 9, name)
    assert len(line) % 8 == 0
    assert line[:128] == replies.entry(FOUND)
    assert line[128:] == replies.dirent(FOUND.shown, FOUND.mode, 9, name)
    number, after, length, kind = protocol.DIRENT.unpack_from(line, 128)
    assert (number, after, kind) == (FOUND.shown, 9, 0o10)
    assert line[152 : 152 + length] == name


def test_extended_attributes_by_the_size_protocol() -> None:
    assert replies.xattr(b"value", 0) == struct.pack("=II", 5, 0)
    assert replies.xattr(b"value", 5) == b"value"
    with pytest.raises(OSError, match="fit") as caught:
        replies.xattr(b"value", 4)
    assert caught.value.errno == errno.ERANGE


@given(st.binary(max_size=200))
def test_any_payload_is_parsed_or_malformed(payload: bytes) -> None:
    parsers = (
        requests.name, requests.range_of, requests.forgets, requests.forget, requests.interrupted,
        requests.xattr_size, requests.xattr_name,
    )  # fmt: skip
    for parse in parsers:
        try:
            parse(payload)
        except requests.Malformed:
            assert len(payload) < 40 or parse in (requests.name, requests.xattr_name, requests.forgets,
                                                  requests.range_of)  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), max_size=20), st.binary())
def test_a_batch_of_forgets(pairs: list[tuple[int, int]], rest: bytes) -> None:
    packed = struct.pack("=II", len(pairs), 0) + b"".join(struct.pack("=QQ", *pair) for pair in pairs)
    assert requests.forgets(packed + rest) == pairs
    if pairs:
        with pytest.raises(requests.Malformed):
            requests.forgets(packed[:-1])


def init(major: int = 7, minor: int = 45, flags: int = 0xFFFF_FFFF, flags2: int = 0xFFFF_FFFF) -> bytes:
    return struct.pack("=IIIII44x", major, minor, 131072, flags, flags2)


def test_init_takes_what_is_wanted_and_no_more() -> None:
    answer = protocol.INIT_OUT.unpack(handshake.init_reply(init()))
    assert answer[:2] == (7, 38)
    assert answer[3] | answer[10] << 32 == handshake.WANTED
    assert answer[8] == 256


def test_init_asks_for_nothing_that_is_not_offered() -> None:
    answer = protocol.INIT_OUT.unpack(handshake.init_reply(init(minor=31, flags=handshake.NEEDED)))
    assert answer[1] == 31
    assert answer[3] | answer[10] << 32 == handshake.NEEDED


@pytest.mark.parametrize("offer", [init(major=8), init(minor=30), init(flags=0), b"", init()[:15]])
def test_a_kernel_that_is_too_old_is_refused_with_what_to_do(offer: bytes) -> None:
    with pytest.raises(UsageError, match="--fuse pyfuse3"):
        handshake.init_reply(offer)
