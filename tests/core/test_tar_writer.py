"""Headers that are written are read back as they were meant, by lazyfs and by Python's tarfile."""

import io
import stat
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.errors import FormatError
from lazyfs.core.layers.record import Kind, Record, from_member
from lazyfs.core.layers.tar import TarReader
from lazyfs.core.layers.tar_writer import (
    DIALECTS,
    END,
    Dialect,
    document_header,
    hardlink_header,
    inode_header,
    padding,
    whiteout_header,
)

NAMES = st.binary(min_size=1, max_size=120).filter(
    lambda name: not set(name) & {0, 0x2F} and name not in (b".", b"..") and not name.startswith(b".wh.")
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(b"/".join)
IDS = st.integers(0, (1 << 32) - 2)
TIMES = st.one_of(st.integers(-(1 << 62), 1 << 62), st.integers(0, 1 << 31).map(lambda time: time * 10**9))
XATTRS = st.dictionaries(
    st.binary(min_size=1, max_size=40)
    .map(b"user.".__add__)
    .filter(lambda name: not {0, 0x3D} & set(name) and b"overlay" not in name),
    st.binary(max_size=300),
    max_size=3,
).map(lambda found: tuple(sorted(found.items())))
KINDS = st.sampled_from((stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO))


@st.composite
def records(draw: st.DrawFn) -> Record:
    kind = draw(KINDS)
    record = Record(
        Kind.INODE,
        draw(PATHS),
        mode=kind | draw(st.integers(0, 0o7777)),
        uid=draw(IDS),
        gid=draw(IDS),
        mtime=draw(TIMES),
        xattrs=draw(XATTRS),
    )
    if kind == stat.S_IFLNK:
        record.mode = kind | 0o777
        record.content = draw(PATHS)
        record.size = len(record.content)
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        record.detail = draw(st.integers(0, (1 << 31) - 1)) << 32 | draw(IDS)
    elif kind == stat.S_IFREG:
        record.size = draw(st.one_of(st.integers(0, 5), st.integers(0, 1 << 50)))
    return record


def read_back(archive: bytes) -> Record:
    member = TarReader(io.BytesIO(archive).read).next()
    assert member is not None
    return from_member(member, whiteouts=True)


@given(records(), st.sampled_from(DIALECTS))
def test_an_entry_comes_back(record: Record, dialect: Dialect) -> None:
    assert read_back(inode_header(record, layer=True, dialect=dialect) + END) == record


@given(PATHS, PATHS, records(), st.sampled_from(DIALECTS))
def test_a_hardlink_comes_back(path: bytes, target: bytes, first: Record, dialect: Dialect) -> None:
    header = hardlink_header(path, target, first, layer=True, dialect=dialect)
    assert read_back(header + END) == Record(Kind.HARDLINK, path, content=target)


@given(st.one_of(PATHS, st.just(b"")), st.sampled_from((Kind.WHITEOUT, Kind.OPAQUE)))
def test_a_whiteout_comes_back(path: bytes, kind: Kind) -> None:
    record = Record(kind, path or b"name" if kind == Kind.WHITEOUT else path)
    assert read_back(whiteout_header(record) + END) == record


@given(records())
def test_tarfile_reads_the_same(record: Record) -> None:
    if record.mtime < 0 or record.detail >> 32 >= 8**7:
        return  # tarfile reads such times as floating point, and no such devices
    archive = inode_header(record, layer=True) + END
    with tarfile.open(fileobj=io.BytesIO(archive), errors="surrogateescape") as opened:
        found = opened.next()
    assert found is not None
    assert found.name.encode("utf-8", "surrogateescape") == record.path
    assert (found.mode, found.uid, found.gid) == (record.mode & 0o7777, record.uid, record.gid)
    assert found.linkname.encode("utf-8", "surrogateescape") == record.content


@pytest.mark.parametrize("size", [0, 511, 512, 8**11 - 1, 8**11, 1 << 60])
def test_the_header_of_a_document_has_one_block(size: int) -> None:
    header = document_header(b"blobs/sha256/" + b"a" * 64, size)
    assert len(header) == 512
    with tarfile.open(fileobj=io.BytesIO(header + END)) as opened:
        found = opened.next()
    assert found is not None
    assert (found.name, found.size) == ("blobs/sha256/" + "a" * 64, size)
    assert (len(padding(size)) + size) % 512 == 0


def test_what_no_archive_can_hold() -> None:
    socket = Record(Kind.INODE, b"s", mode=stat.S_IFSOCK)
    with pytest.raises(FormatError, match="b's' is a socket"):
        inode_header(socket, layer=False)
    odd = Record(Kind.INODE, b"f", mode=stat.S_IFREG, xattrs=((b"user.a=b", b"v"),))
    with pytest.raises(FormatError, match=r"b'f': no archive can hold .*user\.a=b"):
        inode_header(odd, layer=False)
    hidden = Record(Kind.INODE, b"d/.wh.f", mode=stat.S_IFREG)
    with pytest.raises(FormatError, match="would hide another file"):
        inode_header(hidden, layer=True)
    assert inode_header(hidden, layer=False)
