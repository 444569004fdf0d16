"""The layer between tree and session: a failure ends only the call that met it, and no outdated or half-read
state is shown."""

import sys
import threading
import time

import pytest
import trio

from lazyfs.core.catalog.builder import build
from lazyfs.core.digest import Digest, ObjectRef, ref_of
from lazyfs.core.errors import BadData, LazyfsError, Outage
from lazyfs.fuse.direct.kept_answers import KeptAnswers
from lazyfs.fuse.direct.operations import Operations
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.invalidation import Invalidator
from lazyfs.fuse.open_repository import OpenRepository
from lazyfs.fuse.wire import replies
from lazyfs.vfs.inode_numbers import ROOT
from lazyfs.vfs.missing_objects import Fetched, Need
from lazyfs.vfs.slots import SlotTable
from lazyfs.vfs.tree import Tree
from tests.support.filesystems import FetchedObjects, NoPrefetching, filesystem_of, no_site
from tests.support.images import MTIME, NO_SPLIT, Objects, folder, image, live

FAILING, SLOW = ref_of(b"failing"), ref_of(b"slow")


class FailingObjects(Objects):
    """Two objects: a fetch of one fails at once, a fetch of the other succeeds after 0.1 s."""

    def __init__(self, failure: LazyfsError) -> None:
        super().__init__()
        self.failure = failure
        self.fetched: list[ObjectRef] = []

    async def fetch(self, ref: ObjectRef, *, deadline: float | None = None, hurried: bool = False) -> bytes:
        if ref == FAILING:
            raise self.failure
        await trio.sleep(0.1)
        self.fetched.append(ref)
        return b"slow"

    async def fetch_copy(self, *_: object, **__: object) -> dict[Digest, bytes]:
        return {}


class KernelWithoutMemory:
    """A session whose kernel caches nothing, so that only the session's own answers must be dropped."""

    def __init__(self, kept: KeptAnswers) -> None:
        self.forget_answers = kept.drop

    def forget_inode(self, number: int) -> None: ...

    def forget_entry(self, parent: int, name: bytes) -> None: ...


@pytest.mark.parametrize(
    ("failure", "others"), [(BadData("every copy is wrong"), []), (Outage("every path is down"), [SLOW])]
)
async def test_a_failure_ends_the_call_but_not_one_that_may_be_looking_for_a_path(
    failure: LazyfsError, others: list[ObjectRef]
) -> None:
    def call(_: Fetched) -> None:
        raise Need("test", (FAILING, SLOW))

    filesystem = Filesystem(Tree(SlotTable()), no_site)
    source = FailingObjects(failure)
    filesystem.show(OpenRepository("test", source, ref_of(b"root"), 1, NoPrefetching()))
    with pytest.raises(OSError, match="Input/output"):
        await filesystem.complete(call)
    assert source.fetched == others


async def test_a_call_that_has_said_what_it_needs_is_made_when_that_is_here() -> None:
    calls = []

    def call(fetched: Fetched) -> bytes:
        calls.append(set(fetched))
        return fetched[SLOW.digest]

    filesystem = Filesystem(Tree(SlotTable()), no_site)
    source = FailingObjects(BadData("not asked for"))
    filesystem.show(OpenRepository("test", source, ref_of(b"root"), 1, NoPrefetching()))
    assert await filesystem.complete(call, Need("test", (SLOW,))) == b"slow"
    assert calls == [{SLOW.digest}]


async def test_a_sites_folder_is_shown_as_its_repository_is_now() -> None:
    """The session caches its answer for the folder's name. This answer contains the time of the repository's
    last change, so a new revision must replace it."""
    objects = FetchedObjects()
    tree = Tree(SlotTable())
    tree.show_site(("one",))
    filesystem, kept = Filesystem(tree, no_site), KeptAnswers()
    filesystem.show(OpenRepository("one", objects, live(objects, {}).ref, 1, NoPrefetching()))
    answers = Operations(filesystem, kept)
    before = answers.lookup(ROOT, b"one")
    later = build(folder(mtime=MTIME + 10**9), NO_SPLIT, objects.emit, live=True)
    await Invalidator(filesystem, KernelWithoutMemory(kept)).switch("one", later.ref, 2, lambda: None)
    found = tree.lookup(ROOT, b"one")
    assert found is not None
    assert answers.lookup(ROOT, b"one") == replies.entry(found) != before


def test_catalogs_in_use_are_listed_while_others_look_names_up() -> None:
    objects = FetchedObjects()
    images = {f"i{number}": image(objects, {"f": b"%d" % number}) for number in range(300)}
    filesystem = filesystem_of(objects, live(objects, {"all": images}).ref)
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            for ref in (nested.ref for nested in images.values()):
                with filesystem.lock:
                    filesystem.tree.parsed.catalog("test", ref, objects, {})

    reader, interval = threading.Thread(target=look), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    reader.start()
    until = time.monotonic() + 1
    try:
        while time.monotonic() < until:
            filesystem.catalogs_in_use()
    finally:
        stop.set()
        reader.join()
        sys.setswitchinterval(interval)
    assert len(filesystem.catalogs_in_use()) == 300
