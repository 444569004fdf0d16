"""Filesystems over objects made by a test. They prefetch nothing; some record what would be prefetched."""

from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import NotFound
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.open_repository import OpenRepository
from lazyfs.prefetch.heads import head_of
from lazyfs.prefetch.policy import PrefetchPolicy
from lazyfs.prefetch.prefetcher import LineShare, Surroundings
from lazyfs.vfs.content import ReadPlan
from lazyfs.vfs.missing_objects import Fetched, LocalObjects
from lazyfs.vfs.siblings import Siblings
from lazyfs.vfs.slots import SlotTable
from lazyfs.vfs.tree import Tree
from tests.support.images import Objects


class NoPrefetching:
    """A prefetcher that fetches nothing."""

    def on_enter(self, image: ObjectRef, profile: ObjectRef | None, program: str = "") -> None: ...

    def on_read(self, read: ReadPlan) -> None: ...

    def on_miss(self, read: ReadPlan, siblings: Siblings | None, fetched: Fetched) -> None: ...

    def on_arrival(self, read: ReadPlan, fetched: Fetched) -> None: ...


class AskedAhead:
    """A prefetcher with the real policy, which records the objects to fetch instead of fetching them."""

    def __init__(self, objects: LocalObjects) -> None:
        self._objects = objects
        self._policy = PrefetchPolicy()
        self.asked: list[str] = []

    def on_enter(self, image: ObjectRef, profile: ObjectRef | None, program: str = "") -> None: ...

    def on_read(self, read: ReadPlan) -> None:
        self._note(self._policy.on_read(read))

    def on_miss(self, read: ReadPlan, siblings: Siblings | None, fetched: Fetched) -> None:
        self._note(self._policy.on_miss(read, siblings, head_of(read, self._objects, fetched)))

    def on_arrival(self, read: ReadPlan, fetched: Fetched) -> None:
        self._note(self._policy.on_arrival(read, head_of(read, self._objects, fetched)))

    def _note(self, refs: list[ObjectRef]) -> None:
        self.asked += [ref.digest.hex() for ref in refs]


class FetchedObjects(Objects):
    """Objects of a test. All of them are available without a fetch, so a fetch raises NotFound."""

    async def fetch(self, ref: ObjectRef, *, deadline: float | None = None, hurried: bool = False) -> bytes:
        raise NotFound(f"object {ref.digest.hex()} should have been at hand")

    async def fetch_copy(self, *_: object, **__: object) -> dict[Digest, bytes]:
        return {}


async def no_site(name: str) -> None:
    """Opens no repository: raises NotFound for every name."""
    raise NotFound(name)


def filesystem_of(objects: FetchedObjects, root: ObjectRef) -> Filesystem:
    """Returns a filesystem that shows the tree at `root` as the repository `test`."""
    filesystem = Filesystem(Tree(SlotTable()), no_site)
    filesystem.show(OpenRepository("test", objects, root, 1, NoPrefetching()))
    return filesystem


def surroundings(filesystem: Filesystem) -> Surroundings:
    """Returns the parts of a filesystem that a prefetcher uses."""
    return Surroundings(
        filesystem.tree, filesystem.lock, filesystem.demand, lambda: (1 << 30, 0), LineShare()
    )
