"""A reader that goes through an image on a whole filesystem: the files that come next are fetched before it
asks for them, and large catalogs on its way are decoded."""

from pathlib import Path

import trio.testing

from lazyfs.client.objects import Objects
from lazyfs.core.catalog.inode import Inode
from lazyfs.core.digest import object_path, sha256
from lazyfs.fuse.file_read import FileRead
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.open_repository import OpenRepository
from lazyfs.prefetch.neighbours import SMALL
from lazyfs.prefetch.prefetcher import Prefetcher
from lazyfs.prefetch.walks import PROOF
from lazyfs.vfs.catalogs import ENTRIES_AT_ONCE
from lazyfs.vfs.slots import SlotTable
from lazyfs.vfs.tree import Tree
from tests.support.filesystems import no_site, surroundings
from tests.support.gate_fetcher import GateFetcher
from tests.support.images import Objects as Made
from tests.support.images import Spec, file, image, live, number
from tests.support.memory_cache import MemoryCache
from tests.support.store_files import store_object


def content(at: int) -> bytes:
    return b"%d " % at + bytes(SMALL)  # too large to come with its neighbours


def large(made: Made, at: int) -> Inode:
    return file(made, content(at), shift=20)


class Mount:
    """A filesystem whose catalogs are in the cache, except nested ones, and whose files are in a store."""

    def __init__(self, directory: Path, made: Made, spec: Spec) -> None:
        root = live(made, {"one": (top := image(made, spec))})
        self.fetcher, cache = GateFetcher(directory), MemoryCache()
        self.fetcher.gate.set()
        for plain in made.values():
            store_object(directory, plain)
        cache.proven |= {ref.digest: made[ref.digest] for ref in (root.ref, top.ref)}
        objects = Objects(self.fetcher, cache)
        self.filesystem = Filesystem(Tree(SlotTable()), no_site)
        prefetcher = Prefetcher(objects, lambda: 1 << 30, surroundings(self.filesystem))
        self.filesystem.show(OpenRepository("test", objects, root.ref, 1, prefetcher))

    async def read(self, name: str) -> None:
        at = number(self.filesystem.tree, f"one/{name}")
        await self.filesystem.complete(FileRead(self.filesystem, at, 0, 10))
        await trio.testing.wait_all_tasks_blocked(0.01)


async def test_the_files_that_come_next_are_fetched_ahead(tmp_path: Path) -> None:
    made = Made()
    mount = Mount(tmp_path, made, {f"{at:02}": {"file": large(made, at)} for at in range(40)})
    wanted = [object_path(sha256(content(at))) for at in range(40)]
    for at in range(PROOF + 1):
        assert mount.fetcher.requests == wanted[:at]
        await mount.read(f"{at:02}/file")
    await mount.fetcher.asked(PROOF + 3)
    for at in range(PROOF + 1, 40):
        assert wanted[at] in mount.fetcher.requests
        await mount.read(f"{at:02}/file")
    assert sorted(mount.fetcher.requests) == sorted(wanted)


async def test_a_large_catalog_on_the_way_is_fetched_and_decoded_before_the_reader_comes_there(
    tmp_path: Path,
) -> None:
    made, last = Made(), PROOF + 1
    inside = {f"{at:05}": large(made, at) for at in range(100, 102)}
    inner = image(made, inside | {f"{at:05}": b"" for at in range(200, 201 + ENTRIES_AT_ONCE)})
    mount = Mount(tmp_path, made, {f"{at:02}": large(made, at) for at in range(last + 1)} | {"inner": inner})
    for at in range(last + 1):
        await mount.read(f"{at:02}")
    wanted = [content(at) for at in (*range(last + 1), 100, 101)]
    for _ in range(100):  # each read looks if what is on the way is decoded
        if len(mount.fetcher.requests) < len(wanted) + 1:
            await mount.read(f"{last:02}")
    digests = [inner.ref.digest, *map(sha256, wanted)]
    assert sorted(mount.fetcher.requests) == sorted(map(object_path, digests))
