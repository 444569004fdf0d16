"""Guesses on a whole mount: the first miss in a program also fetches the libraries of that program, and their
libraries, in any image."""

from pathlib import Path

import trio
import trio.testing

from lazyfs.client.objects import Objects
from lazyfs.core.catalog.layout import MAGIC
from lazyfs.core.digest import object_path, sha256
from lazyfs.fuse.file_read import FileRead
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.open_repository import OpenRepository
from lazyfs.prefetch.prefetcher import Prefetcher
from lazyfs.vfs.slots import SlotTable
from lazyfs.vfs.tree import Tree
from tests.support.elf_files import library
from tests.support.filesystems import no_site, surroundings
from tests.support.gate_fetcher import GateFetcher
from tests.support.images import Objects as Made
from tests.support.images import file, image, live, number
from tests.support.memory_cache import MemoryCache
from tests.support.store_files import store_object

SIZE = 200_000
"""Size of a library in bytes, which makes four chunks."""


class Mount:
    """An image whose catalogs are in the cache, and whose files are in a store."""

    def __init__(self, directory: Path, spec: dict[str, object], made: Made) -> None:
        cache = MemoryCache()
        root = live(made, {"one": image(made, spec)})
        catalogs = {digest: plain for digest, plain in made.items() if plain.startswith(MAGIC)}
        for plain in made.values():
            store_object(directory, plain)
        cache.proven |= catalogs
        self.made, self.cache, self.fetcher = made, cache, GateFetcher(directory)
        self.fetcher.gate.set()
        self.filesystem = Filesystem(Tree(SlotTable()), no_site)
        around = surroundings(self.filesystem)
        objects = Objects(self.fetcher, cache)
        self.prefetcher = Prefetcher(objects, lambda: 1 << 30, around)
        self.filesystem.show(OpenRepository("test", objects, root.ref, 1, self.prefetcher))

    async def read(self, path: str, offset: int = 0) -> bytes:
        at = number(self.filesystem.tree, path)
        return b"".join(await self.filesystem.complete(FileRead(self.filesystem, at, offset, 100)))

    async def here(self, *contents: bytes) -> None:
        """Waits until all chunks of these files are in the cache."""
        while not all(self._has(content) for content in contents):
            await trio.sleep(0.001)

    def _has(self, content: bytes) -> bool:
        chunks = (content[at : at + (1 << 16)] for at in range(0, len(content), 1 << 16))
        return all(sha256(chunk) in self.cache.proven for chunk in chunks)


def large(mark: bytes, *needed: bytes, runpath: bytes = b"") -> bytes:
    return (library(needed, runpath=runpath) + mark).ljust(SIZE, mark[-1:])


async def test_the_libraries_of_a_program_come_unasked_and_theirs_too(tmp_path: Path) -> None:
    deepest, middle = large(b"deepest"), large(b"middle", b"libdeepest.so", runpath=b"$ORIGIN/deep")
    other = large(b"other")
    made = Made()
    spec = {
        "bin": {"run": file(made, large(b"run", b"libmiddle.so"), mode=0o755)},
        "lib": {"libmiddle.so": middle, "libother.so": other, "deep": {"libdeepest.so": deepest}},
    }
    mount = Mount(tmp_path, spec, made)
    assert (await mount.read("one/bin/run"))[:4] == b"\x7fELF"
    with trio.fail_after(30):
        await mount.here(middle, deepest)
    assert not mount._has(other)
    asked = len(mount.fetcher.requests)
    assert await mount.read("one/lib/libmiddle.so") == middle[:100]
    assert len(mount.fetcher.requests) == asked
    await trio.testing.wait_all_tasks_blocked()
    counts = mount.prefetcher.guesses()
    assert counts.objects == 2 * (1 + 3)  # a chunk list and four chunks, two of them equal
    assert counts.used_objects == 1 + 3


async def test_the_first_library_of_a_directory_brings_the_others(tmp_path: Path) -> None:
    files = {f"lib{name}.so": large(name.encode()) for name in "abcd"}
    made = Made()
    spec = {name: file(made, content, listed=False) for name, content in files.items()}
    mount = Mount(tmp_path, {"pkg": spec}, made)
    await mount.read("one/pkg/liba.so")
    with trio.fail_after(30):
        await mount.here(*files.values())
    assert object_path(sha256(files["libd.so"][: 1 << 16])) in mount.fetcher.requests
