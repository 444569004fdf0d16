"""The order in which a mount moves to another revision: calls are answered from it, then the kernel drops the
old names, then this is written down."""

import threading

import trio

from lazyfs.core.digest import ObjectRef
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.invalidation import Invalidator
from lazyfs.fuse.open_repository import OpenRepository
from lazyfs.vfs.inode_numbers import ROOT
from lazyfs.vfs.slots import SlotRecord, SlotTable
from lazyfs.vfs.tree import Tree
from tests.support.filesystems import FetchedObjects, NoPrefetching, no_site
from tests.support.images import Objects, image, live


class BusyKernel:
    """A session whose kernel drops a name only once the lookups in its folder are answered."""

    def __init__(self) -> None:
        self.answered = {b"one": threading.Event(), b"two": threading.Event()}

    def forget_answers(self, _: set[int]) -> None: ...

    def forget_inode(self, _: int) -> None: ...

    def forget_entry(self, _: int, name: bytes) -> None:
        assert self.answered[name].wait(60)


def of_images(objects: Objects, *names: str) -> ObjectRef:
    return live(objects, {name: image(objects, {"f": name.encode()}) for name in names}).ref


async def test_calls_are_answered_first_and_records_come_last() -> None:
    """The first of two revisions is held up by a lookup; the second one overtakes it. A record of the second
    would say that the kernel has dropped the names of the first."""
    objects, records = FetchedObjects(), list[SlotRecord | int]()
    first, one, two = (of_images(objects, *names) for names in ((), ("one",), ("one", "two")))
    filesystem, kernel = Filesystem(Tree(SlotTable(records.append)), no_site), BusyKernel()
    filesystem.show(OpenRepository("test", objects, first, 1, NoPrefetching()))
    assert filesystem.tree.getattr(ROOT) is not None
    records.clear()
    invalidator = Invalidator(filesystem, kernel)
    switched = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(invalidator.switch, "test", one, 2, switched.set)
        await switched.wait()
        assert filesystem.tree.lookup(ROOT, b"one") is not None
        records.clear()
        kernel.answered[b"two"].set()
        await invalidator.switch("test", two, 3, lambda: None)
        assert [record for record in records if isinstance(record, SlotRecord) and record.live] == []
        kernel.answered[b"one"].set()
    shown = [record.digest for record in records if isinstance(record, SlotRecord) and record.live]
    assert shown == [two.digest]
