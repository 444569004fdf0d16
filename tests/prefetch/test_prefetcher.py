"""The prefetcher with real objects and a store: readers have priority, any thread may call it, and after its
end it does nothing."""

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from lazyfs.client.objects import Objects
from lazyfs.client.unused_window import UnusedWindow
from lazyfs.core import profile
from lazyfs.core.catalog.inode import Inode
from lazyfs.core.digest import Digest, ObjectRef, object_path, ref_of, sha256
from lazyfs.core.profile import HotPack, Origin, Profile, Program
from lazyfs.fuse.file_read import FileRead
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.open_repository import OpenRepository
from lazyfs.prefetch.prefetcher import Prefetcher
from lazyfs.prefetch.queue import PrefetchQueue
from lazyfs.vfs.catalogs import ENTRIES_AT_ONCE
from lazyfs.vfs.slots import SlotTable
from lazyfs.vfs.tree import Tree
from tests.support.filesystems import no_site, surroundings
from tests.support.gate_fetcher import GateFetcher
from tests.support.images import Objects as Made
from tests.support.images import file, folder_of, image, live, number, packed
from tests.support.memory_cache import MemoryCache
from tests.support.store_files import store_object

SHIFT = 12
PROGRAM = b"\x7fELF" + b"".join(bytes([index]) * (1 << SHIFT) for index in range(4))

IMAGE = ObjectRef(sha256(b"image"), 5)


class Mount:
    """A filesystem whose catalogs are in the cache, and whose files are in a store."""

    def __init__(self, directory: Path, package: dict[str, bytes] | None = None) -> None:
        """`package`: compiled modules of a package, which lie in a pack with its `__init__.py`."""
        self.made = Made()
        files: dict[str, Any] = {name: name.encode() for name in "abc"}
        if package is not None:
            source, compiled = packed(self.made, {"__init__.py": b"#"}), packed(self.made, package)
            files["package"] = {**source, "__pycache__": compiled}
        files |= {"run": file(self.made, PROGRAM, shift=SHIFT, mode=0o755)}
        root = live(self.made, {"one": image(self.made, files)})
        self.fetcher, self.cache = GateFetcher(directory), MemoryCache()
        cache = self.cache
        for plain in self.made.values():
            store_object(directory, plain)
        contents = [PROGRAM[at : at + (1 << SHIFT)] for at in range(0, len(PROGRAM), 1 << SHIFT)]
        self.chunks = [sha256(chunk) for chunk in contents]
        here = set(self.made) - set(self.chunks) - {sha256(name.encode()) for name in "abc"} - {sha256(b"#")}
        cache.proven |= {digest: self.made[digest] for digest in here}
        self.objects = objects = Objects(self.fetcher, cache, threads=1)
        self.filesystem = Filesystem(Tree(SlotTable()), no_site)
        around = surroundings(self.filesystem)
        self.prefetcher = Prefetcher(objects, lambda: 1 << 30, around)
        self.filesystem.show(OpenRepository("test", objects, root.ref, 1, self.prefetcher))

    async def read(self, path: str, offset: int = 0) -> bytes:
        at = number(self.filesystem.tree, path)
        return b"".join(await self.filesystem.complete(FileRead(self.filesystem, at, offset, 100)))


def paths(*digests: Digest) -> list[str]:
    return [object_path(digest) for digest in digests]


async def test_a_readers_own_object_is_asked_for_before_those_nobody_waits_for(tmp_path: Path) -> None:
    """Only one request is made at a time, in the order in which the requests were started."""
    mount = Mount(tmp_path)
    mount.fetcher.gate.set()
    assert await mount.read("one/b") == b"b"
    await mount.fetcher.asked(3)
    assert mount.fetcher.requests[0] == object_path(sha256(b"b"))
    assert sorted(mount.fetcher.requests) == sorted(paths(*(sha256(name) for name in (b"a", b"b", b"c"))))


async def test_a_large_directory_beside_a_missed_file_costs_the_read_nothing(tmp_path: Path) -> None:
    """Regression: the first miss of a package with more than 1024 compiled modules failed with EIO. The rules
    look into their directory, which is too large to be decoded under the lock."""
    modules = {f"{at:04}.pyc": b"%d" % at for at in range(ENTRIES_AT_ONCE + 1)}
    mount = Mount(tmp_path, modules)
    mount.fetcher.gate.set()
    assert await mount.read("one/package/__init__.py") == b"#"


async def test_a_program_is_known_when_its_first_chunk_has_come(tmp_path: Path) -> None:
    mount = Mount(tmp_path)
    mount.fetcher.gate.set()
    assert await mount.read("one/run") == PROGRAM[:100]
    await mount.fetcher.asked(3 + len(mount.chunks))
    assert mount.fetcher.requests[0] == object_path(mount.chunks[0])
    assert set(mount.fetcher.requests) >= set(paths(*mount.chunks))


async def test_reads_choose_nothing_until_one_has_to_wait(tmp_path: Path) -> None:
    """The start of a warm image reads thousands of times; each choice would cost processor time in vain."""
    mount = Mount(tmp_path)
    mount.fetcher.gate.set()
    *here, last = mount.chunks
    mount.cache.proven |= {digest: mount.made[digest] for digest in here}

    async def read_in_sequence() -> None:
        for offset in range(0, 500, 100):
            await mount.read("one/run", offset)
        await trio.testing.wait_all_tasks_blocked()

    await read_in_sequence()
    assert mount.fetcher.requests == []
    await mount.read("one/b")
    await mount.fetcher.asked(3)
    await read_in_sequence()
    await mount.fetcher.asked(4)
    assert mount.fetcher.requests[3] == object_path(last)


@pytest.mark.parametrize("exhausted", [False, True])
async def test_around_what_a_profile_is_bringing_nothing_is_guessed(tmp_path: Path, exhausted: bool) -> None:
    """The profile lists what a start reads. Guesses around its objects would bring others, and take a part of
    the line. Only a profile that fetches nothing any more leaves the reader to the guesses."""
    mount = Mount(tmp_path)
    window = UnusedWindow()
    window.exhausted = exhausted
    mount.objects.listed[mount.chunks[0]] = (window,)
    mount.fetcher.gate.set()
    assert await mount.read("one/run") == PROGRAM[:100]
    if exhausted:
        await mount.fetcher.asked(3 + len(mount.chunks))
    await trio.testing.wait_all_tasks_blocked()
    assert (mount.fetcher.requests == paths(mount.chunks[0])) == (not exhausted)


async def test_a_reader_waits_for_the_profile_of_its_own_image_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: while the profile of one image came slowly, each small file that was missed in any other
    image of the repository waited for that profile."""
    monkeypatch.setattr("lazyfs.client.objects.COPY_PATIENCE", 1000.0)
    contents = {name: name.encode() * 1000 for name in ("hinted", "plain")}
    files = tuple(ref_of(content) for content in (contents["hinted"], b"of another file"))
    hot = HotPack(store_object(tmp_path, contents["hinted"] + b"of another file"), files)
    listed = Profile(Origin.RECORDED, (hot,), (Program("", (hot.ref,)),))
    hinted = store_object(tmp_path, profile.encode(listed))
    made, fetcher, cache = Made(), GateFetcher(tmp_path), MemoryCache()
    packs = {name: store_object(tmp_path, content) for name, content in contents.items()}

    def directory(name: str) -> Inode:
        return folder_of(image(made, packed(made, {"f": contents[name]})))

    images = {name: directory(name) for name in contents}
    images["hinted"].xattrs = (profile.hint(hinted),)
    root = live(made, images)
    catalogs = set(made) - {pack.digest for pack in packs.values()}
    cache.proven |= {digest: made[digest] for digest in catalogs}
    objects = Objects(fetcher, cache, patience=2000)
    filesystem = Filesystem(Tree(SlotTable()), no_site, patience=2000)
    prefetcher = Prefetcher(objects, lambda: 1 << 30, surroundings(filesystem))
    filesystem.show(OpenRepository("test", objects, root.ref, 1, prefetcher))
    got: dict[str, bytes] = {}

    async def read(name: str) -> None:
        at = number(filesystem.tree, f"{name}/f")
        got[name] = b"".join(await filesystem.complete(FileRead(filesystem, at, 0, 10_000)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, "hinted")
        await fetcher.asked(1)
        fetcher.free |= set(paths(packs["plain"].digest))
        with trio.fail_after(20):
            await read("plain")
        await trio.testing.wait_all_tasks_blocked()
        assert got == {"plain": contents["plain"]}
        fetcher.gate.set()
    assert got == contents
    assert fetcher.requests == paths(hinted.digest, packs["plain"].digest, hot.ref.digest)


async def test_a_thread_that_answers_the_kernel_may_tell_of_an_image(tmp_path: Path) -> None:
    mount = Mount(tmp_path)
    mount.fetcher.gate.set()
    profile = ObjectRef(sha256(b"profile"), 7)
    await trio.to_thread.run_sync(mount.prefetcher.on_enter, IMAGE, profile)
    await mount.fetcher.asked(1)
    assert mount.fetcher.requests == paths(profile.digest)


def test_a_reader_thread_that_outlives_the_event_loop_is_not_disturbed(tmp_path: Path) -> None:
    async def make() -> Mount:
        return Mount(tmp_path)

    mount = trio.run(make)
    mount.prefetcher.on_enter(IMAGE, ObjectRef(sha256(b"profile"), 7))
    assert mount.fetcher.requests == []


@pytest.mark.parametrize("rule", ["profiles", "queue"])
def test_what_a_reader_thread_tells_as_the_event_loop_ends_does_not_disturb_the_end(
    rule: str, tmp_path: Path
) -> None:
    """When the event loop ends, it still makes the calls that were scheduled, but no task can start any more.
    An error in such a call would end the process."""
    ref = ObjectRef(sha256(b"profile"), 7)

    async def tell_at_the_end(mount: Mount, queue: PrefetchQueue) -> None:
        token = trio.lowlevel.current_trio_token()
        try:
            await trio.sleep_forever()
        finally:
            if rule == "profiles":
                mount.prefetcher.on_enter(IMAGE, ref)
            else:
                token.run_sync_soon(queue.start, [ref])

    async def main() -> tuple[Mount, PrefetchQueue]:
        mount = Mount(tmp_path)
        queue = PrefetchQueue(Objects(mount.fetcher, MemoryCache()))
        trio.lowlevel.spawn_system_task(tell_at_the_end, mount, queue)
        await trio.testing.wait_all_tasks_blocked()
        return mount, queue

    mount, queue = trio.run(main)
    assert mount.fetcher.requests == []
    assert queue.idle
    assert queue.started == 0
