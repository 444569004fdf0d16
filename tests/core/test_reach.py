"""The walk from a catalog to every object: it misses nothing, repeats nothing, and ends on every graph."""

import stat
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core import profile, reach
from lazyfs.core.catalog.builder import build
from lazyfs.core.catalog.entry import DIRECTORY_SIZE, Entry
from lazyfs.core.catalog.inode import Inode, Nested
from lazyfs.core.catalog.layout import Header, Totals, encode
from lazyfs.core.chunks import ChunkList
from lazyfs.core.digest import Digest, ObjectRef, ref_of, sha256
from lazyfs.core.errors import FormatError, UsageError
from lazyfs.core.reach import ObjectKind, Reached, catalog_at, walk

DIR = stat.S_IFDIR | 0o755
FILE = stat.S_IFREG | 0o644
SHIFT = 12
LEVELS = 40
"""The number of levels, each of which names the next one twice. A walk over all 2**40 paths would take 12
days at a million paths a second."""


class Objects:
    """Objects in memory. Counts the reads of each."""

    def __init__(self) -> None:
        self.plain: dict[Digest, bytes] = {}
        self.reads: Counter[Digest] = Counter()

    def put(self, plain: bytes) -> ObjectRef:
        self.plain[sha256(plain)] = plain
        return ref_of(plain)

    def build(self, root: Inode, limit: int = 1 << 30, *, live: bool = False) -> Nested:
        def emit(_: ObjectRef, plain: bytes) -> None:
            self.put(plain)

        return build(root, limit, emit, live=live)

    def read(self, ref: ObjectRef) -> bytes | None:
        self.reads[ref.digest] += 1
        if self.reads[ref.digest] > 1:
            raise AssertionError(f"{ref} is read again")
        return self.plain.get(ref.digest)


@pytest.fixture
def objects() -> Objects:
    return Objects()


def folder(**children: Inode) -> Inode:
    made = Inode(DIR)
    made.children = {name.encode(): child for name, child in children.items()}
    return made


def hung(nested: Nested, **fields: bytes) -> Inode:
    made = Inode(DIR, nested=nested)
    made.xattrs = tuple((name.encode(), value) for name, value in fields.items())
    return made


def file(content: bytes) -> Inode:
    return Inode(FILE, size=len(content), content=sha256(content) if content else b"")


def packed(objects: Objects | None, content: bytes, *before: bytes) -> Inode:
    """Makes a file that is stored in a pack, after files with the contents `before`."""
    plain = b"".join((*before, content))
    if objects is not None:
        objects.put(plain)
    offset = len(plain) - len(content)
    return Inode(FILE, size=len(content), content=sha256(content), pack=ref_of(plain), offset=offset)


def chunked(objects: Objects | None, chunks: list[bytes]) -> Inode:
    """Makes a file of chunks of 4 KiB each; the last chunk may be shorter."""
    size = sum(map(len, chunks))
    listed = ChunkList.encode([sha256(chunk) for chunk in chunks], size, SHIFT)
    if objects is not None:
        objects.put(listed)
    return Inode(FILE, size=size, content=sha256(listed), detail=SHIFT)


def by_path(found: list[Reached]) -> list[tuple[bytes, ObjectKind]]:
    return sorted((one.path, one.kind) for one in found)


LEAVES = st.one_of(
    st.binary(max_size=2).map(file),
    st.tuples(st.binary(min_size=1, max_size=2), st.binary(max_size=2)).map(
        lambda contents: packed(None, *contents)
    ),
    st.lists(st.integers(0, 3), min_size=2, max_size=4).map(
        lambda numbers: chunked(None, [bytes([number]) * (1 << SHIFT) for number in numbers])
    ),
)
TREES = st.recursive(
    LEAVES, lambda inner: st.dictionaries(st.sampled_from("abcdef"), inner).map(lambda d: folder(**d))
).map(lambda inode: folder(top=inode))


@given(TREES, st.integers(2, 8))
def test_every_object_is_given_once(root: Inode, limit: int) -> None:
    objects = Objects()
    top = objects.build(root, limit)
    expected = set(objects.plain)
    without = set()
    pending = [root]
    for directory in pending:
        for child in (directory.children or {}).values():
            pending.append(child)
            if not child.is_dir and child.size:
                expected.add(child.pack.digest if child.pack else Digest(child.content))
                without |= {Digest(child.content)} if child.detail else set()
    found = list(walk([catalog_at(top.ref)], objects.read))
    assert {one.ref.digest for one in found} == expected
    assert len({one.ref for one in found}) == len(found)
    assert {one.ref.digest for one in found if one.kind == ObjectKind.CHUNK_LIST} == without


def test_an_object_says_its_kind_its_size_and_where_it_is(objects: Objects) -> None:
    inner = objects.build(folder(small=file(b"abc")))
    large = chunked(objects, [b"x" * 4096, b"y" * 10])
    top = objects.build(folder(lib=folder(large=large, deep=hung(inner)), empty=file(b"")))
    found = list(walk([catalog_at(top.ref)], objects.read))
    assert by_path(found) == [
        (b"", ObjectKind.CATALOG),
        (b"lib/deep", ObjectKind.CATALOG),
        (b"lib/deep/small", ObjectKind.FILE),
        (b"lib/large", ObjectKind.CHUNK),
        (b"lib/large", ObjectKind.CHUNK),
        (b"lib/large", ObjectKind.CHUNK_LIST),
    ]
    sizes = {one.kind: one.ref.size for one in found if one.path != b"lib/large"}
    assert sizes[ObjectKind.FILE] == 3
    assert [one.ref.size for one in found if one.kind == ObjectKind.CHUNK] == [4096, 10]
    small = next(one for one in found if one.kind == ObjectKind.FILE)
    assert small.above() == [top.ref, inner.ref]
    chunk = next(one for one in found if one.kind == ObjectKind.CHUNK)
    assert chunk.above() == [top.ref, ObjectRef(Digest(large.content), 16 + 64)]


def test_a_pack_is_given_once_and_named_for_each_file_in_it(objects: Objects) -> None:
    one, two = packed(objects, b"one"), packed(objects, b"two", b"one")
    assert two.pack is not None
    one.pack = two.pack
    top = objects.build(folder(a=folder(one=one), b=two, c=file(b"own")))
    start = catalog_at(top.ref)
    named = [
        (found.path, found.ref, found.start, found.file_size, found.content)
        for found in reach.leads_to(start, objects.plain[top.ref.digest])
        if found.kind == ObjectKind.PACK
    ]
    assert sorted(named) == [
        (b"a/one", two.pack, 0, 3, sha256(b"one")),
        (b"b", two.pack, 3, 3, sha256(b"two")),
    ]
    found = list(walk([start], objects.read))
    assert [one.ref for one in found if one.kind == ObjectKind.PACK] == [two.pack]
    only = list(reach.objects_at(top.ref, b"a/one", _again(objects).read))
    assert by_path(only) == [(b"", ObjectKind.CATALOG), (b"a/one", ObjectKind.PACK)]


def test_a_file_of_few_chunks_leads_to_them_without_a_list(objects: Objects) -> None:
    chunks = [b"x" * 4096, b"y" * 10]
    digests = b"".join(sha256(chunk) for chunk in chunks)
    top = objects.build(folder(large=Inode(FILE, size=4106, content=digests, detail=SHIFT)))
    found = list(walk([catalog_at(top.ref)], objects.read))
    assert [one.ref for one in found[1:]] == [ref_of(chunk) for chunk in chunks]
    assert {one.kind for one in found[1:]} == {ObjectKind.CHUNK}
    assert found[1].above() == [top.ref]


def test_catalogs_named_twice_at_each_of_40_levels_are_read_once(objects: Objects) -> None:
    here = objects.build(folder(file=file(b"content")))
    for _ in range(LEVELS):
        here = objects.build(folder(left=hung(here), right=hung(here)))
    found = list(walk([catalog_at(here.ref)], objects.read))
    assert len(found) == LEVELS + 2
    assert len(list(reach.objects_at(here.ref, b"left/right", _again(objects).read))) == LEVELS + 2


def test_folders_named_twice_at_each_of_40_levels_are_read_once(objects: Objects) -> None:
    here = objects.build(folder(image=hung(objects.build(folder(file=file(b"content"))))), live=True)
    for _ in range(LEVELS):
        here = objects.build(folder(left=hung(here), right=hung(here)), live=True)
    assert [one.path for one in reach.images(here.ref, objects.read)] == [b"left/" * LEVELS + b"image"]


def test_directories_of_a_catalog_named_twice_are_refused(objects: Objects) -> None:
    """Each directory has exactly one entry. If two entries shared a directory, its children would have two
    inode numbers for their parent."""

    def directory(name: bytes, number: int) -> Entry:
        return Entry(name, DIR, 0, 0, 0, DIRECTORY_SIZE, detail=number)

    blobs = [[directory(b"a", number + 1), directory(b"b", number + 1)] for number in range(LEVELS)]
    blobs.append([Entry(b"file", FILE, 0, 0, 0, 7, sha256(b"content"))])
    owns = [0, *(1 + 2 * number for number in range(LEVELS))]
    header = Header(directory(b"", 0), live=False, totals=Totals())
    ref = objects.put(encode(header, owns, [0, *range(LEVELS)], blobs))
    with pytest.raises(FormatError, match="'b' leads to directory 1"):
        list(walk([catalog_at(ref)], objects.read))
    with pytest.raises(FormatError):
        list(reach.objects_at(ref, b"b/a", _again(objects).read))


def test_a_chain_of_catalogs_far_deeper_than_the_stack_of_calls_is_walked(objects: Objects) -> None:
    here = objects.build(folder(file=file(b"content")))
    for _ in range(5000):
        here = objects.build(folder(d=hung(here)))
    found = list(walk([catalog_at(here.ref)], objects.read))
    assert len(found) == 5002
    assert found[-1].path == b"d/" * 5000 + b"file"


def test_a_file_that_holds_the_bytes_of_a_catalog_hides_nothing_below_the_catalog(objects: Objects) -> None:
    inner = objects.build(folder(file=file(b"content")))
    top = objects.build(folder(a=file(objects.plain[inner.ref.digest]), b=hung(inner)))
    found = list(walk([catalog_at(top.ref)], objects.read))
    assert by_path(found)[-2:] == [(b"b", ObjectKind.CATALOG), (b"b/file", ObjectKind.FILE)]


def test_what_cannot_be_read_is_given_and_not_looked_into(objects: Objects) -> None:
    lost = objects.build(folder(file=file(b"content")))
    top = objects.build(folder(a=hung(lost), b=file(b"other")))
    del objects.plain[lost.ref.digest]
    found = list(walk([catalog_at(top.ref)], objects.read))
    assert by_path(found) == [(b"", ObjectKind.CATALOG), (b"a", ObjectKind.CATALOG), (b"b", ObjectKind.FILE)]


def test_profiles_and_their_hot_packs_come_where_they_are_asked_for(objects: Objects) -> None:
    """The walk yields a hot pack as a pack that holds files. It skips a hot pack that no program lists,
    because the pack may have been deleted."""
    content = file(b"content")
    members = (ref_of(b"content"), ref_of(b"other"))
    pack, gone = objects.put(b"contentother"), ref_of(b"content")
    packs = (profile.HotPack(pack, members), profile.HotPack(gone, members[:1]))
    programs = (profile.Program("a", (pack,)),)
    made = profile.encode(profile.Profile(profile.Origin.RECORDED, packs, programs))
    hint, value = profile.hint(objects.put(made))
    image = objects.build(folder(file=content))
    top = objects.build(folder(image=hung(image, **{hint.decode(): value})), live=True)
    kinds = [found.kind for found in walk([catalog_at(top.ref)], objects.read)]
    assert sorted(kinds) == [ObjectKind.CATALOG, ObjectKind.CATALOG, ObjectKind.FILE]
    found = list(walk([catalog_at(top.ref)], _again(objects).read, profiles=True))
    assert by_path(found) == [
        (b"", ObjectKind.CATALOG),
        (b"image", ObjectKind.CATALOG),
        (b"image", ObjectKind.PACK),
        (b"image", ObjectKind.PROFILE),
        (b"image/file", ObjectKind.FILE),
    ]
    (listed,) = [one for one in found if one.kind is ObjectKind.PROFILE]
    slices = [(one.ref, one.content, one.start, one.file_size) for one in reach.leads_to(listed, made)]
    assert slices == [(pack, members[0].digest, 0, 7), (pack, members[1].digest, 7, 5)]


def test_the_objects_of_a_path_are_those_below_it_and_the_catalogs_above(objects: Objects) -> None:
    inner = objects.build(folder(sub=folder(file=file(b"in")), other=file(b"beside")))
    top = objects.build(folder(a=hung(inner), b=file(b"out")))
    found = list(reach.objects_at(top.ref, b"a/sub", objects.read))
    assert by_path(found) == [
        (b"", ObjectKind.CATALOG),
        (b"a", ObjectKind.CATALOG),
        (b"a/sub/file", ObjectKind.FILE),
    ]
    only = list(reach.objects_at(top.ref, b"/b/", _again(objects).read))
    assert by_path(only) == [(b"", ObjectKind.CATALOG), (b"b", ObjectKind.FILE)]


@pytest.mark.parametrize("path", [b"c", b"a/c", b"b/a", b"b/a/sub"])
def test_a_path_that_is_not_there_is_refused(objects: Objects, path: bytes) -> None:
    inner = objects.build(folder(sub=folder(file=file(b"in"))))
    top = objects.build(folder(a=hung(inner), b=file(b"out")))
    with pytest.raises(UsageError, match="there is no such path"):
        list(reach.objects_at(top.ref, path, objects.read))


def test_images_are_what_hangs_in_folders_and_is_none(objects: Objects) -> None:
    image = objects.build(folder(deep=hung(objects.build(folder(file=file(b"content"))))))
    inner = objects.build(folder(one=hung(image), two=hung(image)), live=True)
    top = objects.build(folder(registry=hung(inner), tree=hung(image)), live=True)
    found = list(reach.images(top.ref, objects.read))
    assert sorted(one.path for one in found) == [b"registry/one", b"registry/two", b"tree"]
    assert {one.ref for one in found} == {image.ref}


def _again(objects: Objects) -> Objects:
    """Returns the same objects with no reads counted."""
    fresh = Objects()
    fresh.plain = objects.plain
    return fresh
