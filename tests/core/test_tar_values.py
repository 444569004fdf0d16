"""Numbers in tar headers, as tools and attackers write them, are kept, clamped with a warning, or refused."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.errors import FormatError
from lazyfs.core.layers.attributes import is_images
from lazyfs.core.layers.record import clamped, from_member
from lazyfs.core.layers.tar import NOBODY, Member, TarReader

END = bytes(1024)
I64 = 1 << 63


def header(kind: bytes = b"0", **fields: bytes) -> bytes:
    """Returns a header block with raw fields and the right checksum."""
    places = {
        "name": (0, 100), "mode": (100, 108), "uid": (108, 116), "gid": (116, 124), "size": (124, 136),
        "mtime": (136, 148), "magic": (257, 265), "devmajor": (329, 337), "devminor": (337, 345),
    }  # fmt: skip
    defaults = {"name": b"f", "mode": b"0000644\0", "size": b"00000000000\0", "magic": b"ustar\x0000"}
    block = bytearray(512)
    for key, value in {**defaults, **fields}.items():
        start, end = places[key]
        block[start:end] = value.ljust(end - start, b"\0")[: end - start]
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def base256(value: int, width: int) -> bytes:
    """Returns a number in GNU's base-256 form, for numbers too large for octal digits."""
    raw = bytearray((value % (1 << (8 * width))).to_bytes(width, "big"))
    raw[0] |= 0x80
    return bytes(raw)


def pax(**records: bytes) -> bytes:
    body = b""
    for name, value in records.items():
        key = name.replace("__", ".").encode()
        length = len(key) + len(value) + 3
        total = length + len(str(length))
        total = length + len(str(total))
        body += b"%d %s=%s\n" % (total, key, value)
    return header(b"x", size=b"%011o\0" % len(body)) + body + bytes(-len(body) % 512)


def first(data: bytes) -> Member:
    stream = io.BytesIO(data)
    member = TarReader(stream.read).next()
    assert member is not None
    return member


@pytest.mark.parametrize(
    ("data", "uid"),
    [
        (header(uid=b"0001750\0"), 1000),
        (header(uid=b"       \0"), 0),
        (header(uid=b""), 0),
        (header(uid=base256((1 << 32) - 2, 8)), (1 << 32) - 2),
        (header(uid=base256((1 << 32) - 1, 8)), NOBODY),
        (header(uid=base256(1 << 40, 8)), NOBODY),
        (header(uid=base256(-1, 8)), NOBODY),
        (pax(uid=b"4294967295") + header(), NOBODY),
        (pax(uid=b"-2") + header(), NOBODY),
        (pax(uid=b"9999999999999999999") + header(), NOBODY),
        (pax(uid=b"") + header(uid=b"0000001\0"), 1),
    ],
)
def test_owners(data: bytes, uid: int) -> None:
    member = first(data + END)
    assert member.uid == uid
    change = clamped(member, from_member(member, whiteouts=True))
    assert (change is None) == (uid != NOBODY)
    assert change is None or f"owner {member.stated_uid}:0 became 65534:0" in change


@pytest.mark.parametrize(
    ("data", "mtime"),
    [
        (header(mtime=b"00000000001\0"), 1_000_000_000),
        (header(mtime=b""), 0),
        (header(mtime=base256(-1, 12)), -1_000_000_000),
        (header(mtime=base256(-62135596800, 12)), -I64),
        (header(mtime=base256(1 << 62, 12)), I64 - 1),
        (pax(mtime=b"253402300799.999999999") + header(), I64 - 1),
        (pax(mtime=b"-9999999999999999999999") + header(), -I64),
        (pax(mtime=b"9" * 100_000) + header(), I64 - 1),
        (pax(mtime=b"-0.5") + header(), -500_000_000),
        (pax(mtime=b"1." + b"9" * 100_000) + header(), 1_999_999_999),
    ],
)
def test_times(data: bytes, mtime: int) -> None:
    member = first(data + END)
    record = from_member(member, whiteouts=True)
    assert record.mtime == mtime
    change = clamped(member, record)
    assert (change is None) == (mtime not in (-I64, I64 - 1))
    assert change is None or f"time {member.mtime // 10**9} s became" in change


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (header(size=base256(-512, 12)), "size -512 is out of range"),
        (header(b"x", size=base256(-512, 12)), "extended header of -512 bytes"),
        (header(b"g", size=base256(-1024, 12)), "extended header of -1024 bytes"),
        (header(b"L", size=base256(-1, 12)), "extended header of -1 bytes"),
        (header(size=base256(1 << 70, 12)), "does not fit 63 bits"),
        (pax(size=b"-1") + header(), "size is b'-1', not a number"),
        (pax(uid=b"1e3") + header(), "uid is b'1e3', not a number"),
        (pax(mtime=b"nan") + header(), "mtime is b'nan', not a time"),
        (pax(mtime=b"1e400") + header(), "not a time"),
        (
            pax(GNU__sparse__major=b"1", GNU__sparse__minor=b"0", GNU__sparse__realsize=b"10")
            + header(size=b"%011o\0" % 512)
            + b"1\n-4\n1\n".ljust(512, b"\0"),
            "sparse map is b'-4', not a number",
        ),
        (
            pax(GNU__sparse__map=b"0,1", GNU__sparse__size=b"99999999999999999999") + header(),
            "not a number",
        ),
    ],
)
def test_numbers_that_cannot_be(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        first(data + END)


@given(
    st.sampled_from(["uid", "gid", "size", "mtime", "mode", "devmajor", "devminor"]),
    st.integers(-(1 << 95), 1 << 95),
    st.sampled_from([b"0", b"3", b"5", b"x", b"g", b"L", b"S"]),
)
def test_any_number_in_any_field_is_read_or_refused(field: str, value: int, kind: bytes) -> None:
    width = 12 if field in ("size", "mtime") else 8
    stream = io.BytesIO(header(kind, **{field: base256(value, width)}) + bytes(10_000))
    reader = TarReader(stream.read)
    try:
        for _ in range(100):
            member = reader.next()
            if member is None:
                return
            record = from_member(member, whiteouts=True)
            assert 0 <= record.uid < 1 << 32
            assert 0 <= record.gid < 1 << 32
            assert -I64 <= record.mtime < I64
            assert 0 <= record.mode < 1 << 16
    except FormatError:
        return
    raise AssertionError("the archive does not end")


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        (b"user.comment", True),
        (b"security.capability", True),
        (b"system.posix_acl_access", True),
        (b"trusted.md5", True),
        (b"security.selinux", False),
        (b"security.SMACK64EXEC", False),
        (b"security.ima", False),
        (b"system.nfs4_acl", False),
        (b"trusted.overlay.opaque", False),
        (b"user.overlay.whiteout", False),
        (b"user.containers.override_stat", False),
    ],
)
def test_host_labels_are_not_an_images(name: bytes, kept: bool) -> None:
    assert is_images(name) == kept
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("f")
        info.pax_headers = {f"SCHILY.xattr.{name.decode()}": "x"}
        archive.addfile(info)
    record = from_member(first(buffer.getvalue()), whiteouts=True)
    assert record.xattrs == (((name, b"x"),) if kept else ())
