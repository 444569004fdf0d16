"""One call that needs several objects: what the failure of one does to the others."""

import pytest
import trio

from lazyfs.core.chain.faults import Outage
from lazyfs.core.digest import ObjectRef, ref_of
from lazyfs.core.errors import BadData, LazyfsError
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.vfs.need import Brought, Need
from lazyfs.vfs.slots import SlotTable
from lazyfs.vfs.tree import Tree
from tests.support.images import Objects

FAILING, SLOW = ref_of(b"failing"), ref_of(b"slow")


class Source(Objects):
    """Fails for one object at once, and takes a moment for the other."""

    def __init__(self, failure: LazyfsError) -> None:
        super().__init__()
        self.failure = failure
        self.brought: list[ObjectRef] = []

    async def fetch(self, ref: ObjectRef, *, deadline: float | None = None) -> bytes:
        if ref == FAILING:
            raise self.failure
        await trio.sleep(0.1)
        self.brought.append(ref)
        return b"slow"


@pytest.mark.parametrize(
    ("failure", "others"), [(BadData("every copy is wrong"), []), (Outage("every path is down"), [SLOW])]
)
async def test_a_failure_ends_the_call_but_not_one_that_may_be_looking_for_a_path(
    failure: LazyfsError, others: list[ObjectRef]
) -> None:
    async def none(_: str) -> None:
        raise AssertionError("no site here")

    def call(_: Brought) -> None:
        raise Need("test", (FAILING, SLOW))

    filesystem = Filesystem(Tree(SlotTable()), none)
    source = filesystem.sources["test"] = Source(failure)
    with pytest.raises(OSError, match="Input/output"):
        await filesystem.complete(call)
    assert source.brought == others
