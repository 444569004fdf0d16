"""The fetches of a profile beside a reader and a small cache. No profile, whatever it lists, makes a reader
wait more often, pushes out what is pinned or in use, or spends more than its bound."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import trio
import trio.testing

from lazyfs.client.objects import Objects
from lazyfs.client.unused_window import FREE
from lazyfs.core import profile
from lazyfs.core.digest import ObjectRef, object_path, ref_of, sha256
from lazyfs.core.profile import HotPack, Origin, Profile, Program, total
from lazyfs.prefetch.profile_schedule import FAILURES
from lazyfs.prefetch.profiles import ProfilePrefetch
from lazyfs.transport.fetcher import Request, never_cancelled
from lazyfs.transport.local import LocalFetcher
from lazyfs_cache import open_cache
from tests.support.gate_fetcher import GateFetcher
from tests.support.memory_cache import MemoryCache
from tests.support.store_files import store_object

FILES: Final = 30
"""The number of files that a reader reads, one after the other. Each is alone in its pack."""
JUNK: Final = 100_000
"""Bytes of each object that a profile lists and nobody reads."""


class RoundFetcher:
    """A Fetcher that answers in rounds. Requests wait until `answer` is called, which answers all of them.
    The number of rounds until a reader is ready is its number of waits."""

    def __init__(self, directory: Path) -> None:
        self._store = LocalFetcher(str(directory))
        self._lock = threading.Lock()
        self._waiting: list[threading.Event] = []
        self.requests: list[str] = []

    def fetch(self, request: Request, check_cancelled: Callable[[], None] = never_cancelled) -> bytes:
        answered = threading.Event()
        with self._lock:
            self.requests.append(request.path)
            self._waiting.append(answered)
        while not answered.wait(0.01):
            check_cancelled()
        return self._store.fetch(request, check_cancelled)

    def close(self) -> None:
        pass

    def waiting(self) -> int:
        with self._lock:
            return len(self._waiting)

    def answer(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.set()


class Scene:
    """An image with small files in packs of their own, its catalog, and a reader of all of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.contents = [b"%02d" % number * 400 for number in range(FILES)]
        self.packs = [store_object(directory, content) for content in self.contents]
        self.top = store_object(directory, b"a catalog")
        self.fetcher = RoundFetcher(directory)
        self.objects = Objects(self.fetcher, MemoryCache())
        self.profiles = ProfilePrefetch(self.objects, lambda: 1 << 30)
        self.read = 0

    async def _read(self, listed: ObjectRef | None) -> None:
        """Reads all files as a session does: from a hot pack if the image's profile (`listed`) brings one,
        else from its pack."""
        await self.objects.fetch(self.top)
        for content, pack in zip(self.contents, self.packs, strict=True):
            file = ref_of(content)
            found = self.objects.copy_at_hand(file, 0, file.size, {})
            if found is None:
                fetched = await self.objects.fetch_copy(file, listed and listed.digest)
                found = self.objects.copy_at_hand(file, 0, file.size, fetched)
            assert (await self.objects.fetch(pack) if found is None else found) == content
            self.read += 1

    async def waits(self, listed: ObjectRef | None) -> int:
        """Returns the waits of a reader whose image has this profile; None for no profile."""
        rounds = 0
        async with trio.open_nursery() as nursery:
            if listed is not None:
                self.profiles.start(listed)
            nursery.start_soon(self._read, listed)
            while self.read < FILES:
                await self._still()
                rounds += 1
                self.fetcher.answer()
                await self._still()
        return rounds

    async def _still(self) -> None:
        """Waits until every flight has its request at the fetcher, and no task has anything to do, not even
        in a thread: a profile is decoded in one."""
        threads = trio.to_thread.current_default_thread_limiter()
        with trio.fail_after(20):
            while True:
                await trio.testing.wait_all_tasks_blocked(0.002)
                if threads.borrowed_tokens:
                    continue
                if self.read == FILES or self.fetcher.waiting() == len(self.objects._flights) > 0:
                    return

    def lying_packs(self, size: int) -> list[HotPack]:
        """Returns hot packs of `size` bytes that hold none of the image's files, whatever they say."""
        found = []
        for content in self.contents:
            ref = store_object(self.directory, os.urandom(size))
            found.append(HotPack(ref, (ref_of(content), ObjectRef(ref.digest, size - len(content)))))
        return found

    def asked(self, packs: list[HotPack]) -> list[ObjectRef]:
        """Returns those of the packs that were asked for."""
        asked = set(self.fetcher.requests)
        return [pack.ref for pack in packs if object_path(pack.ref.digest) in asked]


def stored(scene: Scene, *objects: ObjectRef, packs: tuple[HotPack, ...] = ()) -> ObjectRef:
    """Stores a profile of one program; returns its reference."""
    made = Profile(Origin.RECORDED, packs, (Program("", objects),))
    return store_object(scene.directory, profile.encode(made))


def absent(_: Scene) -> ObjectRef:
    return ref_of(b"no such profile")


def nonsense(scene: Scene) -> ObjectRef:
    return store_object(scene.directory, b"no profile")


def truncated(scene: Scene) -> ObjectRef:
    ref = stored(scene, scene.packs[0])
    path = scene.directory / object_path(ref.digest)
    path.write_bytes(path.read_bytes()[:-5])
    return ref


def stale(scene: Scene) -> ObjectRef:
    """Lists objects of an image that is gone: they are in no store any more."""
    return stored(scene, *(ObjectRef(sha256(b"%d" % number), JUNK) for number in range(200)))


def unread(scene: Scene) -> ObjectRef:
    return stored(scene, *(store_object(scene.directory, os.urandom(JUNK)) for _ in range(60)))


def backwards(scene: Scene) -> ObjectRef:
    return stored(scene, *reversed(scene.packs))


@pytest.mark.parametrize("made", [absent, nonsense, truncated, stale, unread, backwards])
async def test_a_reader_waits_as_often_beside_a_useless_profile_as_without_one(
    tmp_path: Path, made: Callable[[Scene], ObjectRef]
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    without, beside = Scene(tmp_path / "one"), Scene(tmp_path / "other")
    assert await without.waits(None) == FILES + 1
    assert await beside.waits(made(beside)) <= FILES + 1


async def test_a_profile_that_lies_about_hot_packs_costs_a_reader_three_waits(tmp_path: Path) -> None:
    """Every hot pack is said to hold a file of the image, and holds none. The reader waits for a copy of its
    file until so many of the packs were found wrong."""
    scene = Scene(tmp_path)
    lies = scene.lying_packs(JUNK)
    listed = stored(scene, *(pack.ref for pack in lies), packs=tuple(lies))
    assert await scene.waits(listed) <= FILES + 1 + FAILURES
    assert total(scene.asked(lies)) <= FREE


async def test_a_profile_is_given_up_after_three_wrong_hot_packs(tmp_path: Path) -> None:
    """The packs come one at a time, and the reader finds each wrong. All together are far below 2 MB."""
    scene = Scene(tmp_path)
    lies = scene.lying_packs(1000)
    scene.profiles.most = 1
    await scene.waits(stored(scene, *(pack.ref for pack in lies), packs=tuple(lies)))
    assert FAILURES <= len(scene.asked(lies)) <= FAILURES + 1


async def test_a_reader_waits_for_nothing_that_a_silent_server_owes_to_a_profile(tmp_path: Path) -> None:
    """The server answers no request that only the profile makes."""
    scene = Scene(tmp_path)
    fetcher = GateFetcher(tmp_path)
    free = {object_path(ref.digest) for ref in (scene.top, *scene.packs)}
    listed = unread(scene)
    fetch, store = fetcher.fetch, LocalFetcher(str(tmp_path))

    def answer(request: Request, check_cancelled: Callable[[], None] = never_cancelled) -> bytes:
        if request.path in free or request.path == object_path(listed.digest):
            return store.fetch(request, check_cancelled)
        return fetch(request, check_cancelled)

    fetcher.fetch = answer  # type: ignore[method-assign]
    scene.objects = Objects(fetcher, MemoryCache())
    ProfilePrefetch(scene.objects, lambda: 1 << 30).start(listed)
    await fetcher.asked(FREE // JUNK)
    with trio.fail_after(20):
        await scene._read(listed)
    assert len(fetcher.requests) == FREE // JUNK, "the profile's requests are still under way"
    fetcher.gate.set()


async def test_what_is_pinned_or_in_use_stays_beside_a_profile_of_half_the_cache(tmp_path: Path) -> None:
    """A profile as large as the cache lets it be is fetched and used whole. What a mount has pinned, and the
    quarter of the cache that a program keeps reading, stay. Only what nobody has read for longest goes."""
    limit, size = 16 << 20, 200_000
    with open_cache(str(tmp_path / "cache"), limit, upkeep=False) as cache:
        contents = [os.urandom(size) for _ in range(70)]
        assert all(cache.put(sha256(content), content) for content in contents)
        here_before = list(map(ref_of, contents))
        pinned, hot, cold = here_before[:10], here_before[10:30], here_before[30:]
        cache.keep(b"a mount", {ref.digest: ref.size for ref in pinned})
        cache.upkeep()
        listed = [store_object(tmp_path, os.urandom(size)) for _ in range(limit // 2 // size)]
        ref = store_object(
            tmp_path, profile.encode(Profile(Origin.RECORDED, (), (Program("", tuple(listed)),)))
        )
        fetcher = GateFetcher(tmp_path)
        fetcher.gate.set()
        objects = Objects(fetcher, cache)
        profiles = ProfilePrefetch(objects, lambda: cache.stats().limit)
        profiles.start(ref)
        with trio.fail_after(60):
            while profiles.fetched < len(listed):
                for one in (*hot, *listed):
                    objects.read_at_hand(one, 0, 100)
                cache.upkeep()
                await trio.sleep(0.005)
        cache.upkeep()
        here = {key for key, _ in cache.entries()}
        assert here >= {one.digest for one in (*pinned, *hot)}
        assert not here >= {one.digest for one in cold}, "room was needed"
        assert cache.stats().charged <= limit
