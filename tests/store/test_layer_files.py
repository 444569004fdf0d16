"""The packing of a layer's files: the stored objects, the place of each file, and the contents read back."""

import stat
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core import bounds, codec
from lazyfs.core.catalog.inode import Inode
from lazyfs.core.digest import Digest, ObjectRef, sha256
from lazyfs.core.layers.record import Kind, Record, decode, encode
from lazyfs.core.params import Params
from lazyfs.images.snapshots import snapshot, tree_of
from lazyfs.images.streams import ExactReader
from lazyfs.repository.stored_tree import StoredTree, TreeNode
from lazyfs.store import reader
from lazyfs.store.check import CheckFindings, check
from lazyfs.store.ingest import Ingest

Files = dict[bytes, bytes]
"""Path -> content, in the order of the archive."""
SMALL = Params(chunk_shift=12, pack_files=1000, pack_least=500, pack_target=2000, pack_most=4000)


class Memory:
    """A store of objects in memory."""

    writers = 2

    def __init__(self) -> None:
        self.frames: dict[Digest, bytes] = {}

    def has(self, digest: Digest) -> bool:
        return digest in self.frames

    def put(self, digest: Digest, frame: bytes) -> None:
        self.frames.setdefault(digest, frame)

    def get(self, digest: Digest) -> bytes:
        return self.frames[digest]


def records_of(files: Files, ingest: Ingest) -> list[Record]:
    """Returns the records of a layer with these files, as a publisher reads them."""
    layer = ingest.layer()
    records = []
    for path, data in files.items():
        record = Record(Kind.INODE, path, mode=stat.S_IFREG | 0o644, size=len(data))
        layer.add(record, ExactReader([data]).read)
        records.append(record)
    layer.end()
    return records


def ingested(files: Files, params: Params, store: Memory, **options: int) -> list[Record]:
    with Ingest(store, params, **options) as ingest:
        records = records_of(files, ingest)
        ingest.finish()
    return records


def published(files: Files, params: Params, store: Memory) -> ObjectRef:
    """Returns the catalog of a tree of these files."""
    with Ingest(store, params) as ingest:
        records = records_of(files, ingest)
        ingest.finish()
        assert list(decode(encode(records))) == records
        made: Inode = snapshot(tree_of(records), params, ingest)
    assert made.nested is not None
    return made.nested.ref


def contents(store: Memory, root: ObjectRef) -> Files:
    """Returns every file below a catalog, with its content read through the catalog."""
    tree = StoredTree(reader(store), root)  # type: ignore[arg-type]

    def walk(node: TreeNode, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        for entry in tree.entries(node):
            found = tree.node(entry, node.catalog)
            if entry.is_dir:
                yield from walk(found, prefix + entry.name + b"/")
            else:
                yield prefix + entry.name, b"".join(tree.content(found))

    return dict(walk(tree.root(), b""))


def checked(store: Memory, root: ObjectRef) -> CheckFindings:
    return check(store, root)  # type: ignore[arg-type] # it reads only


PATHS = st.lists(st.sampled_from([b"a", b"b", b"c", b"dd"]), min_size=1, max_size=3).map(
    lambda parts: b"/".join(b"d-" + part for part in parts[:-1]) + b"/" * (len(parts) > 1) + parts[-1]
)
CONTENTS = st.one_of(
    st.binary(max_size=3),
    st.tuples(st.binary(min_size=1, max_size=4), st.integers(1, 3000)).map(lambda both: both[0] * both[1]),
)
LIMITS = st.builds(
    lambda shift, sizes, entries: Params(
        chunk_shift=shift,
        catalog_entries=entries,
        pack_files=sizes[3] // 2,
        pack_least=sizes[0],
        pack_target=sizes[1],
        pack_most=sizes[3],
    ).check(),
    st.integers(12, 14),
    st.lists(st.integers(1, 30_000), min_size=4, max_size=4).map(sorted),
    st.integers(16, 20),
)


@given(st.dictionaries(PATHS, CONTENTS, max_size=30), LIMITS)
def test_any_tree_at_any_limits_is_read_as_it_was_written(files: Files, params: Params) -> None:
    store = Memory()
    root = published(files, params, store)
    assert contents(store, root) == files
    assert checked(store, root).bad == 0


def test_the_same_tree_gives_the_same_catalog_whatever_compresses_it() -> None:
    """The number of threads and the level of compression change stored frames, but no pack and no offset."""
    files = {b"f%d" % number: bytes([number]) * (100 + number * 7) for number in range(200)}
    store = Memory()
    root = published(files, SMALL, store)
    assert published(dict(files), SMALL, Memory()) == root
    places = []
    for level, workers in ((1, 1), (3, 4), (19, 2)):
        other = Memory()
        records = ingested(files, SMALL, other, level=level, workers=workers)
        places.append([(record.pack, record.offset, record.content) for record in records])
        assert set(other.frames) < set(store.frames)
    assert places[0] == places[1] == places[2]


@pytest.mark.parametrize("level", [codec.LEVEL, 1, 9])
def test_packs_and_chunks_have_the_level_that_is_given(level: int) -> None:
    text = b"".join(b"%d," % (number * number) for number in range(2000))
    store = Memory()
    with Ingest(store, SMALL, level=level) as ingest:
        small, large = records_of({b"small": text[:900], b"large": text[:4096]}, ingest)
        ingest.finish()
    assert small.pack is not None
    assert store.frames[small.pack.digest] == codec.encode(text[:900], level)
    assert store.frames[Digest(large.content)] == codec.encode(text[:4096], level)
    assert codec.encode(text[:4096], 1) != codec.encode(text[:4096]) != codec.encode(text[:4096], 9)


def test_no_content_is_stored_twice_within_a_layer() -> None:
    files = {b"f%d" % number: b"%d" % (number % 10) * 300 for number in range(100)}
    store = Memory()
    records = ingested(files, SMALL, store)
    stored = sum(len(codec.decode(frame, size)) for frame, size in _sizes(store, records))
    assert stored == 10 * 300
    assert len({(record.pack, record.offset) for record in records}) == 10


def _sizes(store: Memory, records: list[Record]) -> list[tuple[bytes, int]]:
    packs = {record.pack for record in records if record.pack is not None}
    assert {pack.digest for pack in packs} == set(store.frames)
    return [(store.frames[pack.digest], pack.size) for pack in packs]


def test_files_up_to_the_limit_are_packed_and_no_others() -> None:
    sizes = (0, 1, 1000, 1001, 4096, 4097)
    records = ingested({b"%d" % size: b"x" * size for size in sizes}, SMALL, Memory())
    packed = [record.size for record in records if record.pack is not None]
    assert packed == [1, 1000]
    assert [record.detail for record in records] == [0, 0, 0, 0, 0, 12]
    assert records[3].content == sha256(b"x" * 1001)
    none = ingested({b"a": b"x"}, Params(pack_files=0), Memory())
    assert none[0].pack is None


def test_the_entry_of_a_file_of_few_chunks_holds_their_digests() -> None:
    few, many = b"x" * (4096 * bounds.INLINE_CHUNKS), b"y" * (4096 * bounds.INLINE_CHUNKS + 1)
    store = Memory()
    root = published({b"few": few, b"many": many}, SMALL, store)
    assert contents(store, root) == {b"few": few, b"many": many}
    entries = StoredTree(reader(store), root).catalog(root).directory(0).entries  # type: ignore[arg-type]
    assert [entry.chunk_list is None for entry in entries] == [True, False]
    assert entries[0].content == sha256(few[:4096]) * bounds.INLINE_CHUNKS
    # the catalog, the one chunk of x, the chunk list of y, the two chunks of y
    assert checked(store, root).objects == 1 + 1 + 1 + 1 + 1


def test_each_layer_begins_afresh() -> None:
    """A layer's packs do not depend on the layers below it. So images that share a layer share its packs."""
    files = {b"f%d" % number: bytes([number]) * 200 for number in range(50)}
    store = Memory()
    alone = {record.pack for record in ingested(files, SMALL, store)}
    with Ingest(store, SMALL) as ingest:
        records_of({b"other": b"y" * 300}, ingest)
        after = records_of(files, ingest)
        ingest.finish()
    assert {record.pack for record in after} == alone


def test_a_store_that_fails_ends_the_layer_with_its_error() -> None:
    class Full(Memory):
        def put(self, digest: Digest, frame: bytes) -> None:
            raise OSError("no space")

    files = {b"f%d" % number: bytes([number]) * 900 for number in range(100)}
    with pytest.raises(OSError, match="no space"):
        ingested(files, SMALL, Full())
