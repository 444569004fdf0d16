"""A site's repositories are opened on first use. Concurrent callers share one opening, which continues if its
first caller leaves."""

import pytest
import trio
import trio.testing

from lazyfs.core.errors import NotFound
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.open_repository import OpenRepository
from lazyfs.vfs.inode_numbers import ROOT
from lazyfs.vfs.missing_objects import Fetched
from lazyfs.vfs.slots import SlotTable
from lazyfs.vfs.tree import Tree
from tests.support.filesystems import FetchedObjects, NoPrefetching
from tests.support.images import image, live


class Site:
    """A site of one repository; its opening waits for the test's gate."""

    def __init__(self, patience: float = 30.0) -> None:
        self.begun = 0
        self.failure: Exception | None = None
        self.gate = trio.Event()
        self.filesystem = Filesystem(Tree(SlotTable()), self.open, patience=patience)
        self.filesystem.tree.show_site(("a",))
        self.objects = FetchedObjects()
        self.root = live(self.objects, {"one": image(self.objects, {"f": b"f"})}).ref

    async def open(self, name: str) -> None:
        self.begun += 1
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.filesystem.show(OpenRepository(name, self.objects, self.root, 1, NoPrefetching()))

    async def look(self) -> int:
        def call(fetched: Fetched) -> int:
            found = self.filesystem.tree.lookup(ROOT, b"a", fetched)
            assert found is not None
            return found.number

        return await self.filesystem.complete(self.filesystem.locked(call))


async def test_calls_that_come_together_wait_for_one_opening(nursery: trio.Nursery) -> None:
    """Regression: each call used to make its own connection and refresher, and only those of the last call
    were ever closed."""
    site = Site()
    for _ in range(3):
        nursery.start_soon(site.look)
    await trio.testing.wait_all_tasks_blocked()
    site.gate.set()
    await site.look()
    assert site.begun == 1


async def test_a_caller_that_is_killed_leaves_the_opening_to_the_others(nursery: trio.Nursery) -> None:
    site = Site()
    killed = trio.CancelScope()

    async def first() -> None:
        with killed:
            await site.look()

    nursery.start_soon(first)
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(site.look)
    await trio.testing.wait_all_tasks_blocked()
    killed.cancel()
    await trio.testing.wait_all_tasks_blocked()
    site.gate.set()
    await site.look()
    assert site.begun == 1


@pytest.mark.parametrize(
    "failure", [NotFound("x"), OSError(5, "Input/output error"), ZeroDivisionError()], ids=repr
)
async def test_an_opening_that_fails_is_eio_for_all_and_the_next_call_opens_anew(failure: Exception) -> None:
    site = Site()
    site.failure = failure
    refused = 0

    async def look() -> None:
        nonlocal refused
        with pytest.raises(OSError, match="Input/output error"):
            await site.look()
        refused += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        nursery.start_soon(look)
        await trio.testing.wait_all_tasks_blocked()
        site.gate.set()
    assert (site.begun, refused) == (1, 2)
    site.failure = None
    await site.look()
    assert site.begun == 2


async def test_an_opening_is_waited_for_until_the_deadline_and_goes_on() -> None:
    site = Site(patience=0.0)
    with pytest.raises(OSError, match="Input/output"):
        await site.look()
    assert site.filesystem.counters.faults == {"DeadlineExceeded": 1}
    site.filesystem.patience = 30.0
    site.gate.set()
    await site.look()
    assert site.begun == 1
