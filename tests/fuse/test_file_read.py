"""A single READ request from its plan to its bytes. The read is planned once, looks up each object once, and
looks up none while it holds the filesystem's lock."""

from collections import Counter

import pytest

from lazyfs.core.digest import Digest, ObjectRef, sha256
from lazyfs.fuse.file_read import FileRead
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.open_repository import OpenRepository
from lazyfs.vfs.content import NeedContent, ReadPlan
from lazyfs.vfs.missing_objects import NOTHING, Fetched, Need, NeedRepository
from lazyfs.vfs.shared_files import MIN_SIZE as SHARED_MIN
from lazyfs.vfs.siblings import Siblings
from lazyfs.vfs.slots import SlotTable
from lazyfs.vfs.tree import Tree
from tests.support.filesystems import NoPrefetching, no_site
from tests.support.images import Objects, file, image, live, number

SHIFT = 12
PLAIN = b"".join(bytes([index]) * (1 << SHIFT) for index in range(1, 5))
CHUNKS = [sha256(PLAIN[at : at + (1 << SHIFT)]) for at in range(0, len(PLAIN), 1 << SHIFT)]


class CountedObjects(Objects):
    """Objects that keep nothing after a fetch. Counts lookups and fetches."""

    def __init__(self) -> None:
        super().__init__()
        self.looked: Counter[Digest] = Counter()
        self.fetched: list[Digest] = []
        self.filesystem: Filesystem | None = None

    def read_at_hand(self, ref: ObjectRef, start: int, length: int) -> bytes | None:
        assert self.filesystem is not None
        assert not self.filesystem.lock.locked()
        self.looked[ref.digest] += 1
        return super().read_at_hand(ref, start, length)

    async def fetch(self, ref: ObjectRef, *, deadline: float | None = None, hurried: bool = False) -> bytes:
        self.fetched.append(ref.digest)
        return self[ref.digest]

    async def fetch_copy(self, *_: object, **__: object) -> dict[Digest, bytes]:
        return {}


class Told(NoPrefetching):
    """A prefetcher that records each event of a read, and the objects that the read had fetched by then."""

    def __init__(self) -> None:
        self.of: list[tuple[str, set[Digest]]] = []

    def on_read(self, read: ReadPlan) -> None:
        self.of.append(("read", set()))

    def on_miss(self, read: ReadPlan, siblings: Siblings | None, fetched: Fetched) -> None:
        assert siblings is not None
        assert siblings.entries[siblings.position].name == b"f"
        self.of.append(("miss", set(fetched)))

    def on_arrival(self, read: ReadPlan, fetched: Fetched) -> None:
        self.of.append(("arrival", set(fetched)))


class Mount:
    """A filesystem with a file of four chunks."""

    def __init__(self) -> None:
        self.objects, self.told = CountedObjects(), Told()
        content = file(self.objects, PLAIN, shift=SHIFT)
        root = live(self.objects, {"one": image(self.objects, {"f": content, "g": b"beside"})})
        self.filesystem = self.objects.filesystem = Filesystem(Tree(SlotTable()), no_site)
        self.filesystem.show(OpenRepository("test", self.objects, root.ref, 1, self.told))
        self.number = number(self.filesystem.tree, "one/f")
        self.chunk_list = Digest(content.content)
        self.metadata = set(self.objects) - set(CHUNKS)

    def read(self, offset: int = 0, length: int = len(PLAIN)) -> FileRead:
        return FileRead(self.filesystem, self.number, offset, length)


@pytest.fixture
def mount() -> Mount:
    return Mount()


async def test_a_miss_is_planned_once_and_looks_for_each_object_once(mount: Mount) -> None:
    mount.objects.here = mount.metadata | {CHUNKS[0], CHUNKS[2]}
    read = mount.read()
    with pytest.raises(NeedContent) as need:
        read(NOTHING)
    assert [ref.digest for ref in need.value.refs] == [CHUNKS[1], CHUNKS[3]]
    assert b"".join(await mount.filesystem.complete(read, need.value)) == PLAIN
    fetched = {CHUNKS[1], CHUNKS[3]}
    assert mount.told.of == [("read", set()), ("miss", set()), ("arrival", fetched)]
    assert sorted(mount.objects.fetched) == sorted(fetched)
    assert [mount.objects.looked[chunk] for chunk in CHUNKS] == [2, 1, 2, 1]


async def test_a_chunk_list_that_is_missing_comes_before_the_plan(mount: Mount) -> None:
    mount.objects.here = mount.metadata - {mount.chunk_list}
    read = mount.read(length=10)
    with pytest.raises(Need) as need:
        read(NOTHING)
    assert not isinstance(need.value, NeedContent)
    assert b"".join(await mount.filesystem.complete(read, need.value)) == PLAIN[:10]
    assert mount.objects.fetched == [mount.chunk_list, CHUNKS[0]]
    whole = {mount.chunk_list, CHUNKS[0]}
    assert mount.told.of == [("read", set()), ("miss", {mount.chunk_list}), ("arrival", whole)]


async def test_a_part_that_leaves_the_cache_while_others_are_fetched_is_fetched_too(mount: Mount) -> None:
    mount.objects.here = mount.metadata | {CHUNKS[0]}
    read = mount.read(length=2 << SHIFT)
    with pytest.raises(NeedContent) as need:
        read(NOTHING)
    mount.objects.here = mount.metadata
    assert b"".join(await mount.filesystem.complete(read, need.value)) == PLAIN[: 2 << SHIFT]
    assert mount.objects.fetched == [CHUNKS[1], CHUNKS[0]]


async def test_a_read_at_hand_tells_of_the_read_alone(mount: Mount) -> None:
    assert b"".join(mount.read(5, 100)(NOTHING)) == PLAIN[5:105]
    assert mount.read(len(PLAIN), 100)(NOTHING) == []
    assert mount.told.of == [("read", set()), ("read", set())]


async def test_a_miss_is_answered_though_the_kernel_has_given_the_number_back(mount: Mount) -> None:
    mount.objects.here = mount.metadata
    read = mount.read(length=10)
    with pytest.raises(NeedContent) as need:
        read(NOTHING)
    tree = mount.filesystem.tree
    tree.forget(mount.number, 99)
    tree.slots.sweep("test")
    mount.told.on_miss = lambda read, siblings, fetched: None  # type: ignore[method-assign]
    assert b"".join(await mount.filesystem.complete(read, need.value)) == PLAIN[:10]


class WithdrawnSite(Mount):
    """A site with one repository, which is opened on demand. Its file `f` is large enough to be shared
    between images."""

    def __init__(self) -> None:
        self.objects, self.told, self.opened = CountedObjects(), Told(), 0
        self.content = bytes(range(256)) * (SHARED_MIN >> 7)
        whole = file(self.objects, self.content, shift=20)
        chunked = file(self.objects, self.content, shift=SHIFT)
        self.root = live(self.objects, {"one": image(self.objects, {"f": whole, "g": chunked})})
        self.filesystem = self.objects.filesystem = Filesystem(Tree(SlotTable()), self.open)
        self.filesystem.tree.show_site(("test",))

    async def open(self, name: str) -> None:
        self.opened += 1
        self.told.on_miss = lambda read, siblings, fetched: None  # type: ignore[method-assign]
        self.filesystem.show(OpenRepository(name, self.objects, self.root.ref, 1, self.told))

    async def numbers(self) -> list[int]:
        await self.open("test")
        return [number(self.filesystem.tree, f"test/one/{name}") for name in ("f", "g")]


async def test_a_file_that_is_open_is_read_on_when_its_repository_is_open_again() -> None:
    """A read carries only the inode number. From it the filesystem finds the file without any catalog."""
    site = WithdrawnSite()
    for one in await site.numbers():
        assert site.filesystem.tree.shared_files.get(one) is not None
        site.filesystem.withdraw("test")
        read = FileRead(site.filesystem, one, 0, len(site.content))
        with pytest.raises(NeedRepository) as need:
            read(NOTHING)
        assert b"".join(await site.filesystem.complete(read, need.value)) == site.content
    assert site.opened == 3
    assert site.filesystem.counters.faults == {}


async def test_a_repository_that_is_withdrawn_while_a_read_waits_is_opened_for_its_answer() -> None:
    site = WithdrawnSite()
    one, _ = await site.numbers()
    fetch = site.objects.fetch

    async def withdrawn_meanwhile(
        ref: ObjectRef, *, deadline: float | None = None, hurried: bool = False
    ) -> bytes:
        site.filesystem.withdraw("test")
        return await fetch(ref, deadline=deadline, hurried=hurried)

    site.objects.here = set()
    site.objects.fetch = withdrawn_meanwhile  # type: ignore[method-assign]
    read = FileRead(site.filesystem, one, 0, len(site.content))
    assert b"".join(await site.filesystem.complete(read)) == site.content
    assert site.opened == 2
    assert site.filesystem.counters.faults == {}
