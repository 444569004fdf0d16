"""Catalogs: the encoded tree is read back, equal trees give equal bytes, and wrong bytes are refused."""

import stat
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.catalog.builder import build
from lazyfs.core.catalog.entry import ADDED, LIVE, NESTED, Entry, check_entry
from lazyfs.core.catalog.inode import Inode, Nested, from_entry
from lazyfs.core.catalog.reader import Catalog
from lazyfs.core.digest import Digest, ObjectRef, ObjectSlice, sha256
from lazyfs.core.errors import FormatError

DIR = stat.S_IFDIR | 0o755
FILE = stat.S_IFREG | 0o644
LINK = stat.S_IFLNK | 0o777


def file(content: bytes = b"", **fields: int) -> Inode:
    return Inode(FILE, size=len(content), content=sha256(content) if content else b"", **fields)  # type: ignore[arg-type]


def tree(**children: Inode) -> Inode:
    root = Inode(DIR)
    assert root.children is not None
    root.children.update({name.encode(): child for name, child in children.items()})
    return root


def built(root: Inode, limit: int = 1 << 30, *, live: bool = False) -> tuple[Nested, dict[Digest, bytes]]:
    objects: dict[Digest, bytes] = {}

    def emit(ref: ObjectRef, plain: bytes) -> None:
        assert sha256(plain) == ref.digest
        objects[ref.digest] = plain

    return build(root, limit, emit, live=live), objects


def walk(ref: ObjectRef, objects: dict[Digest, bytes], prefix: bytes = b"") -> Iterator[tuple[bytes, Entry]]:
    """Yields every (path, entry) below a catalog, nested catalogs included."""
    catalog = Catalog(objects[ref.digest])
    for number in range(catalog.directories):
        directory = catalog.directory(number)
        for position, entry in enumerate(directory.entries):
            path = prefix + catalog.path(directory.first + position)
            yield path, entry
            if entry.nested:
                yield from walk(entry.nested, objects, path + b"/")


def walk_places(
    ref: ObjectRef, objects: dict[Digest, bytes], prefix: bytes = b""
) -> Iterator[tuple[bytes, ObjectSlice | None]]:
    """Yields (path, place of its content) for every path below a catalog."""
    catalog = Catalog(objects[ref.digest])
    for index in range(1, catalog.entries):
        entry, path = catalog.entry(index), prefix + catalog.path(index)
        yield path, entry.place(catalog.packs)
        if entry.nested:
            yield from walk_places(entry.nested, objects, path + b"/")


names = st.binary(min_size=1, max_size=12).filter(
    lambda n: b"/" not in n and b"\0" not in n and n not in (b".", b"..")
)
leaves = st.builds(
    lambda content, mode, uid, mtime, xattrs: Inode(
        stat.S_IFREG | mode,
        uid=uid,
        mtime=mtime,
        size=len(content),
        content=sha256(content) if content else b"",
        xattrs=tuple(sorted(xattrs.items())),
    ),
    st.binary(max_size=3),
    st.integers(0, 0o7777),
    st.integers(0, 2**32 - 2),
    st.integers(-(2**63), 2**63 - 1),
    st.dictionaries(names, st.binary(max_size=4), max_size=2),
)


def directory_of(children: dict[bytes, Inode]) -> Inode:
    root = Inode(DIR)
    assert root.children is not None
    root.children.update(children)
    return root


PACKS = [ObjectRef(sha256(b"%d" % number), 100 + number) for number in range(3)]
packed = st.builds(
    lambda content, pack, offset: Inode(
        FILE, size=len(content), content=sha256(content), pack=pack, offset=offset
    ),
    st.binary(min_size=1, max_size=3),
    st.sampled_from(PACKS),
    st.integers(0, 97),
)
trees = st.recursive(
    leaves | packed, lambda inner: st.dictionaries(names, inner, max_size=6).map(directory_of), max_leaves=40
).map(lambda inode: inode if inode.is_dir else directory_of({b"only": inode}))


def flat(root: Inode, prefix: bytes = b"") -> Iterator[tuple[bytes, Inode]]:
    for name, child in (root.children or {}).items():
        yield prefix + name, child
        yield from flat(child, prefix + name + b"/")


@given(trees, st.integers(2, 20))
def test_what_goes_in_comes_out_however_it_is_split(root: Inode, limit: int) -> None:
    top, objects = built(root, limit)
    found = dict(walk(top.ref, objects))
    places = dict(walk_places(top.ref, objects))
    expected = dict(flat(root))
    assert found.keys() == expected.keys()
    for path, inode in expected.items():
        entry = found[path]
        assert (entry.mode, entry.uid, entry.mtime, entry.xattrs) == (
            inode.mode,
            inode.uid,
            inode.mtime,
            inode.xattrs,
        )
        if not inode.is_dir:
            assert (entry.size, entry.content) == (inode.size, inode.content)
            own = ObjectRef(Digest(inode.content), inode.size)
            place = ObjectSlice(inode.pack or own, inode.offset, inode.size)
            assert places[path] == (place if inode.size else None)
        else:
            assert entry.nlink == 2 + sum(child.is_dir for child in (inode.children or {}).values())
    assert top.totals.entries == len(expected)


@given(trees, st.integers(2, 20))
def test_equal_trees_give_equal_bytes_whatever_order_they_were_built_in(root: Inode, limit: int) -> None:
    def reversed_copy(inode: Inode) -> Inode:
        copy = Inode(
            inode.mode,
            uid=inode.uid,
            mtime=inode.mtime,
            size=inode.size,
            content=inode.content,
            pack=inode.pack,
            offset=inode.offset,
            xattrs=inode.xattrs,
        )
        for name in reversed(list(inode.children or {})):
            assert inode.children is not None
            assert copy.children is not None
            copy.children[name] = reversed_copy(inode.children[name])
        return copy

    assert built(root, limit) == built(reversed_copy(root), limit)


def test_an_unchanged_subtree_keeps_its_catalog_when_its_neighbours_change() -> None:
    def big() -> Inode:
        return tree(**{f"f{i}": file(b"x") for i in range(30)})

    one, _ = built(tree(a=big(), b=file(b"1")), 20)
    _, objects = built(tree(a=big(), b=file(b"2"), c=big()), 20)
    nested = [
        entry.nested for _, entry in walk(one.ref, built(tree(a=big(), b=file(b"1")), 20)[1]) if entry.nested
    ]
    assert len(nested) == 1
    assert nested[0].digest in objects


def test_hardlinks_share_the_first_index_and_count_their_names() -> None:
    shared = file(b"content")
    top, objects = built(tree(a=tree(x=shared), b=shared, c=file(b"other")))
    catalog = Catalog(objects[top.ref.digest])
    entries = dict(walk(top.ref, objects))
    assert entries[b"a/x"].link == entries[b"b"].link > 0
    assert entries[b"a/x"].nlink == entries[b"b"].nlink == 2
    assert catalog.entry(entries[b"b"].link).name in (b"x", b"b")
    assert entries[b"c"].link == 0
    assert top.totals.bytes == len(b"content") + len(b"other")


def test_a_hardlink_group_across_catalogs_is_listed_in_the_top_catalog() -> None:
    shared = file(b"content")
    far = tree(**{f"f{i}": file(b"x") for i in range(30)})
    assert far.children is not None
    far.children[b"link"] = shared
    top, objects = built(tree(a=shared, far=far), 20)
    entries = dict(walk(top.ref, objects))
    assert entries[b"far"].nested is not None
    assert entries[b"a"].link == entries[b"far/link"].link < 0
    assert Catalog(objects[top.ref.digest]).header.shared == ((-entries[b"a"].link, b"a"),)
    assert Catalog(objects[entries[b"far"].nested.digest]).header.shared == ()


def test_totals_add_up_over_nested_catalogs() -> None:
    big = tree(**{f"f{i}": file(b"xyz") for i in range(30)})
    top, _ = built(tree(a=big, b=tree(c=file(b"12"))), 20)
    assert (top.totals.entries, top.totals.files, top.totals.bytes) == (33, 31, 92)


def test_a_live_folder_keeps_its_nested_directories() -> None:
    image, objects = built(tree(bin=file(b"sh")))
    folder = Inode(DIR)
    assert folder.children is not None
    folder.children[b"image"] = Inode(DIR, uid=7, nested=image)
    folder.children[b"tag"] = Inode(LINK, size=5, content=b"image")
    top, more = built(folder, live=True)
    catalog = Catalog(more[top.ref.digest])
    assert catalog.header.live
    entry = catalog.directory(0).find(b"image")
    assert entry is not None
    assert (entry.nested, entry.uid, entry.nlink) == (image.ref, 7, 2)
    again = from_entry(entry, catalog.header.nested[0][1])
    assert again.nested == image
    assert [path for path, _ in walk(top.ref, objects | more)] == [b"image", b"image/bin", b"tag"]


def test_a_packed_file_becomes_the_publisher_s_inode_again() -> None:
    inode = Inode(FILE, size=3, content=sha256(b"abc"), pack=PACKS[1], offset=50)
    top, objects = built(tree(other=file(b"own"), name=inode))
    catalog = Catalog(objects[top.ref.digest])
    again = from_entry(catalog.entry(1), packs=catalog.packs)
    assert (again.pack, again.offset, again.detail, again.content) == (PACKS[1], 50, 0, sha256(b"abc"))


def test_a_live_folder_with_a_plain_subdirectory_is_refused() -> None:
    with pytest.raises(ValueError, match="nested"):
        built(tree(sub=tree()), live=True)


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0b", b"x" * 256])
def test_names_that_lead_elsewhere_are_refused(name: bytes) -> None:
    with pytest.raises(FormatError):
        built(directory_of({name: file()}))


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFIFO, stat.S_IFLNK, stat.S_IFREG])
def test_only_a_directory_can_be_nested(kind: int) -> None:
    """Regression: the target of a link, 4000 bytes, was taken for a digest. The cache could make no file of
    so long a name, and turned itself off."""
    content = {stat.S_IFLNK: b"x" * 4000, stat.S_IFREG: bytes(32)}.get(kind, b"")
    entry = Entry(b"odd", kind | 0o600, 0, 0, 0, len(content), content, detail=12, flags=NESTED | LIVE)
    with pytest.raises(FormatError, match="contradicts itself"):
        check_entry(entry)


def test_added_entries_are_marked() -> None:
    top, objects = built(tree(dev=Inode(DIR, flags=ADDED)))
    ((_, entry),) = walk(top.ref, objects)
    assert entry.flags == ADDED


def touch_everything(encoded: bytes) -> None:
    catalog = Catalog(encoded)
    for number in range(min(catalog.directories, 1000)):
        directory = catalog.directory(number)
        for position in range(len(directory.entries)):
            catalog.path(directory.first + position)
    catalog.entry(0)


@given(trees, st.data())
def test_a_damaged_catalog_is_refused_and_never_crashes(root: Inode, data: st.DataObject) -> None:
    top, objects = built(root)
    encoded = bytearray(objects[top.ref.digest])
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(encoded)))
    for damaged in (bytes(encoded), bytes(encoded[:cut])):
        try:
            touch_everything(damaged)
        except FormatError:
            continue


@given(st.binary(max_size=300))
def test_random_bytes_are_no_catalog(encoded: bytes) -> None:
    with pytest.raises(FormatError):
        touch_everything(encoded)
