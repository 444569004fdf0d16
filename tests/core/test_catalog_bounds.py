"""Properly signed but wrong catalogs: each field at its extremes, and references to forbidden places."""

import stat
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core import bounds
from lazyfs.core.catalog import reader
from lazyfs.core.catalog.builder import build
from lazyfs.core.catalog.entry import DIRECTORY_SIZE, LIVE, NESTED, Entry, packed_detail
from lazyfs.core.catalog.inode import Inode, Nested
from lazyfs.core.catalog.layout import MAGIC, PREFIX, Header, Totals, encode
from lazyfs.core.catalog.reader import ENTRY_MEMORY, Catalog
from lazyfs.core.chunks import ChunkList, list_size
from lazyfs.core.digest import Digest, ObjectRef, sha256
from lazyfs.core.errors import FormatError

DIR, FILE, LINK = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777
DIGEST = bytes(range(32))
ROOT = Entry(b"", DIR, 0, 0, 0, DIRECTORY_SIZE)


def entry(name: bytes = b"x", mode: int = FILE, **fields: Any) -> Entry:
    return Entry(name, mode, **({"uid": 0, "gid": 0, "mtime": 0, "size": 0} | fields))


def directory(name: bytes, number: int, **fields: Any) -> Entry:
    return entry(name, DIR, size=DIRECTORY_SIZE, detail=number, **fields)


def catalog(*directories: list[Entry], owns: list[int], parents: list[int], **header: Any) -> Catalog:
    fields: dict[str, Any] = {"root": ROOT, "live": False, "totals": Totals()} | header
    return Catalog(encode(Header(**fields), owns, parents, list(directories)))


def alone(one: Entry, **header: Any) -> Entry:
    """Encodes a catalog with this entry only, and returns the entry as a reader decodes it."""
    return catalog([one], owns=[0], parents=[0], **header).entry(1)


def packed(size: int, offset: int, number: int = 0, **fields: Any) -> Entry:
    """Returns the entry of a file that lies in a pack."""
    return entry(size=size, content=DIGEST, detail=packed_detail(number, offset), **fields)


def table(*sizes: int) -> bytes:
    """Returns the encoded table of packs of these sizes, even if these are not allowed."""
    return b"".join(struct.pack("<32sI", DIGEST, size) for size in sizes)


@pytest.mark.parametrize(
    "one",
    [
        entry(size=bounds.OBJECT, content=DIGEST),
        entry(size=bounds.CHUNKS << 12, content=DIGEST, detail=12),
        entry(size=bounds.CHUNKS << 24, content=DIGEST, detail=24),
        entry(size=4097, content=DIGEST * 2, detail=12),
        entry(size=bounds.INLINE_CHUNKS << 24, content=DIGEST * bounds.INLINE_CHUNKS, detail=24),
        entry(mode=stat.S_IFCHR | 0o600, detail=bounds.MAJOR << 32 | bounds.MINOR),
        entry(mode=LINK, size=bounds.PATH, content=b"t" * bounds.PATH),
        entry(uid=bounds.NOBODY - 1, gid=bounds.NOBODY - 1, mtime=-(1 << 63), nlink=bounds.NLINK),
        entry(xattrs=((b"user." + b"n" * 250, bytes(bounds.XATTR)),)),
        entry(link=-bounds.SHARED_ID),
        entry(mode=DIR, size=DIRECTORY_SIZE, flags=NESTED, content=DIGEST, detail=bounds.OBJECT),
    ],
)
def test_what_lies_just_within_its_bounds_is_read(one: Entry) -> None:
    assert alone(one) == one


@pytest.mark.parametrize(
    "one",
    [
        entry(size=1 << 62, content=DIGEST),
        entry(size=bounds.OBJECT + 1, content=DIGEST),
        entry(size=(bounds.CHUNKS << 12) + 1, content=DIGEST, detail=12),
        entry(size=1 << 62, content=DIGEST, detail=24),
        entry(size=100, content=DIGEST, detail=25),
        entry(size=4096, content=DIGEST * 2, detail=12),
        entry(size=4097, content=DIGEST * 3, detail=12),
        entry(size=8193, content=DIGEST * 2, detail=12),
        entry(size=4097, content=DIGEST * 2 + b"x", detail=12),
        entry(size=4097, content=DIGEST * 2),
        entry(size=1 << 62, content=DIGEST * 2, detail=12),
        entry(size=100 << 12, content=DIGEST * 100, detail=12),
        entry(size=4097, content=DIGEST * 2, detail=packed_detail(0, 0)),
        entry(size=100, content=DIGEST, detail=11),
        entry(detail=12),
        entry(content=b"short"),
        entry(mode=stat.S_IFCHR | 0o600, detail=(bounds.MAJOR + 1) << 32),
        entry(mode=stat.S_IFBLK | 0o600, detail=bounds.MINOR + 1),
        entry(mode=stat.S_IFBLK | 0o600, detail=(1 << 63) - 1),
        entry(mode=stat.S_IFCHR | 0o600, size=1),
        entry(mode=stat.S_IFIFO | 0o600, detail=1),
        entry(mode=stat.S_IFSOCK | 0o600, size=1),
        entry(mode=stat.S_IFIFO | 0o600, content=b"x"),
        entry(mode=LINK, size=bounds.PATH + 1, content=b"t" * (bounds.PATH + 1)),
        entry(mode=LINK, size=3, content=b"a\0b"),
        entry(mode=LINK, size=1, content=b"a", detail=1),
        entry(uid=bounds.NOBODY),
        entry(gid=bounds.NOBODY),
        entry(nlink=bounds.NLINK + 1),
        entry(flags=8),
        entry(flags=LIVE),
        entry(mode=0o644),
        entry(mode=FILE | 1 << 16),
        entry(xattrs=((b"user.x", bytes(bounds.XATTR + 1)),)),
        entry(xattrs=((b"n" * 256, b""),)),
        entry(xattrs=((b"b", b""), (b"a", b""))),
        entry(xattrs=((b"a", b""), (b"a", b""))),
        entry(xattrs=((b"a\0b", b""),)),
        entry(xattrs=tuple((b"n%0250d" % number, b"") for number in range(300))),
        entry(mode=DIR, size=DIRECTORY_SIZE, flags=NESTED, content=DIGEST, detail=bounds.OBJECT + 1),
        entry(mode=DIR, size=DIRECTORY_SIZE, flags=NESTED, content=DIGEST, detail=0),
        entry(mode=DIR, size=1 << 62, flags=NESTED, content=DIGEST, detail=100),
        entry(mode=DIR, size=DIRECTORY_SIZE, flags=NESTED, content=DIGEST, detail=100, link=1),
    ],
)
def test_what_lies_outside_is_refused(one: Entry) -> None:
    with pytest.raises(FormatError, match="contradicts itself"):
        alone(one)
    if not one.name:
        return
    with pytest.raises(FormatError):
        catalog([], owns=[0], parents=[0], root=msgspec.structs.replace(one, name=b""))


@pytest.mark.parametrize(
    "one",
    [
        packed(1, 0),
        packed(1000, 0),
        packed(1, 999),
        packed(bounds.PACK, 0, 1),
        packed(1, bounds.PACK - 1, 1),
    ],
)
def test_a_file_that_just_fits_its_pack_is_read(one: Entry) -> None:
    assert alone(one, packs=table(1000, bounds.PACK)) == one


@pytest.mark.parametrize(
    "one",
    [
        packed(0, 0),
        packed(1001, 0),
        packed(1, 1000),
        packed(500, 501),
        packed(1, 1 << 31),
        packed(1, (1 << 32) - 1),
        packed(1, 0, 2),
        packed(1, 0, bounds.PACKS),
        packed(1, 0, (1 << 31) - 2),
        packed(bounds.PACK + 1, 0, 1),
        packed(1, bounds.PACK, 1),
        packed((1 << 63) - 1, 0, 1),
        packed((1 << 63) - 1, (1 << 32) - 1, 1),
        packed(1, 0, flags=NESTED),
        entry(size=1, content=DIGEST[:31], detail=packed_detail(0, 0)),
    ],
)
def test_a_file_that_lies_outside_its_pack_or_in_none_is_refused(one: Entry) -> None:
    with pytest.raises(FormatError):
        alone(one, packs=table(1000, bounds.PACK))
    with pytest.raises(FormatError):
        alone(one)


@pytest.mark.parametrize("mode", [LINK, DIR, stat.S_IFIFO | 0o600, stat.S_IFSOCK | 0o600])
def test_nothing_but_a_file_lies_in_a_pack(mode: int) -> None:
    with pytest.raises(FormatError):
        alone(packed(1, 0, mode=mode), packs=table(1000))


@pytest.mark.parametrize(
    "packs",
    [table(0), table(1, bounds.PACK + 1), table(1)[:35], table(1) + b"x", table(*[1] * (bounds.PACKS + 1))],
)
def test_a_table_of_packs_that_cannot_be_is_refused(packs: bytes) -> None:
    with pytest.raises(FormatError):
        alone(entry(), packs=packs)


def test_catalogs_of_version_1_are_read_and_name_no_packs() -> None:
    old = [ROOT, False, [0, 0, 0], [], []]
    row = [(0, 1, 1, 0, 0)]
    assert Catalog(raw(row, b"\x90", 1, msgspec.msgpack.encode(old), version=1)).version == 1
    with pytest.raises(FormatError, match="version 1 names packs"):
        Catalog(raw(row, b"\x90", 1, msgspec.msgpack.encode([*old, table(1)]), version=1))
    for version in (0, 3, 1 << 15):
        with pytest.raises(FormatError, match="version"):
            Catalog(raw(row, b"\x90", 1, msgspec.msgpack.encode(old), version=version))


@pytest.mark.parametrize("link", [2, 3, 1 << 31, 1 << 32, (1 << 32) + 1, (1 << 63) - 1])
def test_a_hardlink_leads_to_no_later_name_and_into_no_other_slot(link: int) -> None:
    """Inode numbers are `slot << 32 | link`, where each catalog in use has a slot of its own. A link of more
    than 32 bits would be a number in another catalog's slot."""
    with pytest.raises(FormatError):
        alone(entry(link=link))


@pytest.mark.parametrize("link", [-(1 << 31), -(1 << 32), -(1 << 32) - 5, -(1 << 63)])
def test_a_group_s_id_leads_into_no_other_slot(link: int) -> None:
    with pytest.raises(FormatError):
        alone(entry(link=link))


@pytest.mark.parametrize(
    ("owns", "parents"),
    [
        ([0, 1, 1], [0, 0, 1]),  # two directories own one entry
        ([0, 3, 1], [0, 0, 0]),  # owners are out of order
        ([0, 1, 3], [0, 0, 2]),  # a directory lies in itself
        ([0, 1, 3], [0, 2, 0]),  # a directory lies in a later one
        ([0, 1, 2], [0, 0, 1]),  # the owner lies in another directory than the parent
        ([0, 1, 9], [0, 0, 1]),  # the owner does not exist
        ([1, 1, 3], [0, 0, 1]),  # the root has an owner
        ([0, 1, 3], [1, 0, 1]),  # the root has a parent
    ],
)
def test_directories_form_a_tree(owns: list[int], parents: list[int]) -> None:
    blobs = [[directory(b"a", 1), entry(b"b")], [directory(b"c", 2)], [entry(b"d")]]
    right = catalog(*blobs, owns=[0, 1, 3], parents=[0, 0, 1])
    assert right.path(4) == b"a/c/d"
    with pytest.raises(FormatError):
        catalog(*blobs, owns=owns, parents=parents)


@pytest.mark.parametrize("inner", [0, 2, 3, 1 << 17, (1 << 32) + 1])
def test_a_directory_s_entry_is_its_own(inner: int) -> None:
    """An entry that claims another entry's directory would give that directory a second inode number and a
    second parent."""
    blobs = [[directory(b"a", inner), directory(b"b", 2)], [], []]
    found = catalog(*blobs, owns=[0, 1, 2], parents=[0, 0, 0])
    with pytest.raises(FormatError):
        found.directory(0)


def test_directories_deeper_than_linux_paths_are_refused() -> None:
    depth = bounds.DEPTH + 1
    blobs = [[directory(b"d", number)] for number in range(1, depth + 1)]
    rows = {"owns": list(range(depth)), "parents": [0, *range(depth - 1)]}
    assert catalog(*blobs[: depth - 1], [], **rows).directories == depth
    rows = {"owns": list(range(depth + 1)), "parents": [0, *range(depth)]}
    with pytest.raises(FormatError, match="deep"):
        catalog(*blobs, [], **rows)


def raw(
    table: list[tuple[int, int, int, int, int]],
    blobs: bytes,
    entries: int,
    header: bytes = b"",
    version: int = 2,
) -> bytes:
    """Returns a catalog's bytes with this directory table, valid or not."""
    header = header or msgspec.msgpack.encode(Header(ROOT, live=False, totals=Totals()))
    columns = [struct.pack(f"<{len(table)}I", *column) for column in zip(*table, strict=True)]
    return b"".join((PREFIX.pack(MAGIC, version, len(header), len(table), entries), header, *columns, blobs))


def test_directories_do_not_overlap() -> None:
    """If directories could share one blob, a catalog of 11 KiB could decode to a gigabyte."""
    blob = msgspec.msgpack.encode([entry(b"%08d" % number) for number in range(1000)])
    with pytest.raises(FormatError, match="overlap"):
        Catalog(raw([(0, len(blob), 1 + 1000 * n, n, 0) for n in range(100)], blob, 100_001))
    one = [(0, len(blob), 1, 0, 0)]
    assert len(Catalog(raw(one, blob, 1001)).directory(0).entries) == 1000
    for wrong in (blob + b"x", b"x" + blob, blob[:-1]):
        with pytest.raises(FormatError):
            Catalog(raw(one, wrong, 1001))


def test_more_entries_than_the_table_says_are_not_decoded() -> None:
    blob = msgspec.msgpack.encode([entry(b"%08d" % number) for number in range(100_000)])
    found = Catalog(raw([(0, len(blob), 1, 0, 0)], blob, 3))
    before = found.memory
    with pytest.raises(FormatError, match="has not 2 entries"):
        found.directory(0)
    assert found.memory == before


@pytest.mark.parametrize("entries", [0, bounds.ENTRIES + 2, (1 << 32) - 1])
def test_the_count_of_entries_is_bounded(entries: int) -> None:
    with pytest.raises(FormatError):
        Catalog(raw([(0, 1, 1, 0, 0)], b"\x90", entries))


@pytest.mark.parametrize(
    "header",
    [
        [ROOT, False, [0, 0, 0], [[0, [0, 0, 0]]], []],  # the root cannot be a nested catalog
        [ROOT, False, [0, 0, 0], [[5, [0, 0, 0]]], []],
        [ROOT, False, [0, 0, 0], [[1, [0, 0, 0]], [1, [0, 0, 0]]], []],
        [ROOT, False, [bounds.COUNT + 1, 0, 0], [], []],
        [ROOT, False, [0, 0, bounds.BYTES + 1], [], []],
        [ROOT, False, [0, 0, 0], [], [[0, b"a"]]],
        [ROOT, False, [0, 0, 0], [], [[1 << 31, b"a"]]],
        [ROOT, False, [0, 0, 0], [], [[3, b"a"], [3, b"b"]]],
        [ROOT, False, [0, 0, 0], [], [[3, b""]]],
        [ROOT, False, [0, 0, 0], [], [[3, b"../a"]]],
        [ROOT, False, [0, 0, 0], [], [[3, b"/a"]]],
        [ROOT, False, [0, 0, 0], [], [[3, b"a//b"]]],
        [ROOT, False, [0, 0, 0], [], [[3, b"a/" * 5000 + b"b"]]],
        [ROOT, False, [0, 0, 0], [], [[number, b"a"] for number in range(1, bounds.SHARED + 2)]],
        [entry(b"", FILE), False, [0, 0, 0], [], []],
        [directory(b"name", 0), False, [0, 0, 0], [], []],
        [directory(b"", 1), False, [0, 0, 0], [], []],
    ],
)
def test_a_header_that_contradicts_itself_is_refused(header: list[Any]) -> None:
    with pytest.raises(FormatError):
        Catalog(raw([(0, 1, 1, 0, 0)], b"\x90", 1 + 2, msgspec.msgpack.encode(header)))


def test_a_live_folder_has_one_directory_whose_directories_are_nested() -> None:
    nested = entry(b"n", DIR, size=DIRECTORY_SIZE, flags=NESTED | LIVE, content=DIGEST, detail=100)
    assert catalog([nested], owns=[0], parents=[0], live=True).entry(1).nested == ObjectRef(
        Digest(nested.content), 100
    )
    with pytest.raises(FormatError, match="live folder"):
        catalog([directory(b"a", 1)], [], owns=[0, 1], parents=[0, 0], live=True)


def test_memory_is_charged_as_decoded() -> None:
    found = catalog([entry(b"%d" % number) for number in range(10, 90)], owns=[0], parents=[0])
    before = found.memory
    found.directory(0)
    assert found.memory >= before + 80 * ENTRY_MEMORY
    after = found.memory
    found.directory(0)
    assert found.memory == after


@given(st.integers(0, (1 << 63) - 1), st.integers(0, 63))
def test_a_chunk_list_is_of_a_bounded_file(size: int, shift: int) -> None:
    head = struct.pack("<4sB3xQ", b"LZFC", shift, size)
    allowed = 12 <= shift <= bounds.MAX_SHIFT and size <= bounds.CHUNKS << shift
    if allowed and list_size(size, shift) > 1 << 16:
        return  # the list is allowed, but too large to build here
    try:
        chunks = ChunkList(head + bytes(32) * min(-(-size >> shift), 2048), size, shift)
    except FormatError:
        assert not allowed
    else:
        assert allowed
        assert len(chunks) == -(-size >> shift)


# catalogs as publishers write them


def tree(children: dict[bytes, Inode]) -> Inode:
    root = Inode(DIR)
    assert root.children is not None
    root.children.update(children)
    return root


def built(root: Inode, limit: int = 1 << 30) -> tuple[Nested, dict[ObjectRef, Catalog]]:
    made: dict[ObjectRef, Catalog] = {}
    return build(root, limit, lambda ref, plain: made.update({ref: Catalog(plain)})), made


def test_a_catalog_that_would_hold_too_much_is_split_at_its_subdirectories(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of the root's many directories is too small for a catalog of its own."""
    monkeypatch.setattr(bounds, "ENTRIES", 100)
    root = tree(
        {b"%d" % one: tree({b"%d" % two: Inode(FILE, mtime=one) for two in range(19)}) for one in range(50)}
    )
    top, made = built(root, 1000)
    assert len(made) == 51
    assert max(found.entries - 1 for found in made.values()) <= 100
    assert top.totals.entries == 50 * 20


def test_a_directory_that_no_reader_takes_is_not_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "ENTRIES", 100)
    built(tree({b"%d" % number: Inode(FILE) for number in range(100)}))
    with pytest.raises(FormatError, match="101 entries, and readers take 100"):
        built(tree({b"%d" % number: Inode(FILE) for number in range(101)}))


@pytest.mark.parametrize(("size", "pack", "offset"), [(2, 1, 0), (1, 1, 1), (1, bounds.PACK + 1, 0)])
def test_a_file_outside_its_pack_is_not_published(size: int, pack: int, offset: int) -> None:
    inode = Inode(FILE, size=size, content=DIGEST, pack=ObjectRef(Digest(DIGEST), pack), offset=offset)
    with pytest.raises(FormatError):
        built(tree({b"x": inode}))


@pytest.mark.parametrize(("count", "inline"), [(10, True), (11, False)])
def test_a_catalog_holds_digests_of_chunks_up_to_a_bound_and_then_names_lists(
    monkeypatch: pytest.MonkeyPatch, count: int, inline: bool
) -> None:
    monkeypatch.setattr(bounds, "INLINE_BYTES", 64 * 10)
    files = {b"%02d" % one: Inode(FILE, size=8192, content=DIGEST * 2, detail=12) for one in range(count)}
    objects: dict[ObjectRef, bytes] = {}
    top = build(tree(files), 1 << 30, objects.__setitem__)
    listed = ChunkList.of(DIGEST * 2, 8192, 12).encoded
    for one in Catalog(objects[top.ref]).directory(0).entries:
        assert one.content_id == sha256(listed)
        if inline:
            assert (one.content, one.chunk_list) == (DIGEST * 2, None)
            assert one.chunks is not None
            assert one.chunks.encoded == listed
        else:
            assert one.chunks is None
            assert one.chunk_list is not None
            assert objects[one.chunk_list] == listed


def test_directories_too_deep_for_readers_are_not_published() -> None:
    here = tree({})
    for _ in range(bounds.DEPTH):
        here = tree({b"d": here})
    built(here)
    with pytest.raises(FormatError, match="lie in one another"):
        built(tree({b"d": here}))


def test_a_catalog_at_a_path_too_long_for_readers_is_not_published() -> None:
    here = tree({b"%d" % number: Inode(FILE) for number in range(20)})
    for _ in range(bounds.NESTED_PATH // 200):
        here = tree({b"d" * 199: here})
    built(here, 16)
    with pytest.raises(FormatError, match="leads to a catalog"):
        built(tree({b"d" * 199: here}), 16)


@pytest.mark.parametrize("count", [1024, 1025])
def test_no_call_decodes_more_than_so_many_entries(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """While a call decodes, it blocks every other thread of the interpreter, and so all answers of the
    mount."""
    decoded: list[int] = []

    class Counting:
        def __init__(self, decoder: Any) -> None:
            self._decoder = decoder

        def decode(self, encoded: Any) -> Any:
            found = self._decoder.decode(encoded)
            decoded.append(len(found) if isinstance(found, list) else 1)
            return found

    for name in ("_entries", "_entry"):
        monkeypatch.setattr(reader, name, Counting(getattr(reader, name)))
    entries = [entry(b"%06d" % number) for number in range(count)]
    assert catalog(entries, owns=[0], parents=[0]).directory(0).entries == entries
    assert max(decoded) <= 1024
    assert sum(decoded) == count


def test_a_wrong_entry_of_a_large_directory_is_refused() -> None:
    entries: list[Any] = [entry(b"%06d" % number) for number in range(2000)]
    entries[1500] = [b"001500", "no mode"]
    with pytest.raises(FormatError, match="bad directory 0"):
        catalog(entries, owns=[0], parents=[0]).directory(0)
