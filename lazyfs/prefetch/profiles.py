"""The objects that earlier starts of an image touched, fetched in order when the image is entered.

Several objects are under way at a time. A reader of one of them joins its flight. A reader of a small file
takes it from a hot pack, here or on its way, or else from the file's own pack. What is fetched ahead depends
on what is used (`UnusedWindow`): only 2 MB are fetched on trust. So a start that waits for its first objects
shares the network line with little else, and a program list that is stale, wrong or hostile is given up. A
list is also given up after three of its objects have failed.
"""

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from lazyfs.client.objects import Objects
from lazyfs.client.system_task import begin
from lazyfs.client.unused_window import UnusedWindow
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import LazyfsError
from lazyfs.core.profile import HotPack, Profile, decode
from lazyfs.prefetch.line_share import LineShare
from lazyfs.prefetch.profile_schedule import FAILURES, HERE, ProfileSchedule, Start, fits

log = logging.getLogger(__name__)

AT_ONCE: Final = 28
"""The largest number of objects of one profile under way. `objects.THREADS` is larger, and the difference is
left to readers.

The fewer are under way, the more often a start waits, one time after the other. The more there are, the
longer is their queue on the line: an object that begins on a new connection behind it takes seconds, and
those after it overtake it. Computed for a start of an analysis with 231 objects, on a line of 50 ms and 100
Mbit/s, mean of 24 orders: 18 waits and 7.56 s with 20 objects, 15 and 7.54 s with 24, 14 and 7.54 s with 28,
13 and 7.70 s with 32, 14 and 8.2 s with 40."""
FIRST_ONES: Final = 8
"""The number of objects that are expected to be fetched at one time once a profile is here. Together they
must not have more than `unused_window.FREE` bytes."""
UNUSED_SECONDS: Final = 60.0
"""A program list that may fetch no more, because too much of it is unused, is given up if none of its objects
is used for so many seconds."""
TOLD_SECONDS: Final = 0.5
"""Seconds after an image was entered for which only the objects that all its programs read are fetched, if
its programs have separate lists. Within this time `lazyfs run` says which program it starts."""


class ProfilePrefetch:
    """Fetches the profiles of one repository. Belongs to one trio run."""

    def __init__(
        self, objects: Objects, cache_limit: Callable[[], int], share: LineShare | None = None
    ) -> None:
        """`cache_limit` returns the bytes that the cache may hold. `share`: the bounds of all that is fetched
        ahead."""
        self.share = LineShare() if share is None else share
        self.most = min(AT_ONCE, self.share.requests)
        """The largest number of objects of one program list under way."""
        self._objects = objects
        self._cache_limit = cache_limit
        self._schedule = ProfileSchedule()
        self._windows: dict[Digest, tuple[UnusedWindow, int]] = {}
        """The window of each profile under way, and the number of its lists that are."""
        self._told: dict[Digest, trio.Event] = {}
        """Profiles whose image was entered so recently that `lazyfs run` may still say which program it
        starts. The event is set when it has."""
        self.fetched = 0
        """Number of objects fetched."""
        self.failed = 0
        self.given_up = 0
        """Number of lists that were given up because nobody used what came."""

    def start(self, ref: ObjectRef, program: str = "") -> None:
        """Begins to fetch the objects that a profile lists for a program, unless it was begun before; returns
        at once. `program`: its path or name; empty if it is not known."""
        if program and ref.digest in self._told:
            self._told[ref.digest].set()
            self._schedule.ended((ref.digest, ""))  # as of now: the program's list takes its place
        if self._objects.keeps and self._schedule.begin((ref.digest, program), time.monotonic()):
            loaded = trio.Event()
            self._objects.loading[loaded] = ref.digest  # now: a reader in the same breath waits for it
            window = self._window(ref.digest)
            if not begin(self._run, ref, program, window, loaded, name=f"profile {ref.digest.hex()[:12]}"):
                del self._objects.loading[loaded]
                self._leave(ref.digest)

    async def _run(self, ref: ObjectRef, program: str, window: UnusedWindow, loaded: trio.Event) -> None:
        done = False
        start = ref.digest, program
        # A system task: an error that escapes would end the whole trio run.
        try:
            profile = await self._load(ref)
            listed = profile.of(program)
            if not fits(listed, await trio.to_thread.run_sync(self._cache_limit)):
                log.info("profile %s is too large for the cache", ref.digest.hex())
                self._objects.hot.drop(ref.digest)
                done = True
            else:
                done = await self._fetch(profile, listed, start, window, loaded)
        except LazyfsError as error:
            self.failed += 1
            log.warning("profile %s: %s", ref.digest.hex(), error)
        except Exception:
            self.failed += 1
            log.exception("profile %s", ref.digest.hex())
        finally:
            self._objects.loading.pop(loaded, None)
            loaded.set()
            self._leave(ref.digest)
        self._schedule.ended(start)
        if not done:
            self._schedule.failed(start, time.monotonic())

    def _window(self, name: Digest) -> UnusedWindow:
        """Returns the window that the lists of a profile share while any of them is under way, and counts one
        list more. If each list had a window of its own, a profile with many programs would fetch
        `unused_window.FREE` bytes on trust for each program."""
        window, lists = self._windows.get(name, (UnusedWindow(), 0))
        self._windows[name] = window, lists + 1
        return window

    def _leave(self, name: Digest) -> None:
        """Counts one list of a profile less. With the last list, the window goes."""
        window, lists = self._windows.pop(name)
        if lists > 1:
            self._windows[name] = window, lists - 1
        else:
            self._objects.forget(window)

    async def _fetch(
        self,
        profile: Profile,
        listed: list[ObjectRef],
        start: Start,
        window: UnusedWindow,
        loaded: trio.Event,
    ) -> bool:
        """Fetches the objects that a profile lists for a start (`listed`). Returns True if no object is left
        to fetch."""
        name, program = start
        if not program and len(profile.programs) > 1:
            common = _Listed(self, self._objects, profile, profile.common(), start, window)
            if await self._is_told(name, common, loaded):
                return True  # the list of the program that was told is on its way
        return await _Listed(self, self._objects, profile, listed, start, window).fetch(loaded)

    async def _is_told(self, name: Digest, common: "_Listed", loaded: trio.Event) -> bool:
        """For at most TOLD_SECONDS, fetches the objects that all programs of the profile read. Returns True
        if `lazyfs run` has said meanwhile which program it starts."""
        told = self._told[name] = trio.Event()
        try:
            with trio.move_on_after(TOLD_SECONDS):
                await common.fetch(loaded)
                await told.wait()
        finally:
            del self._told[name]
        return told.is_set()

    async def _load(self, ref: ObjectRef) -> Profile:
        """Reads a profile and remembers the places of its small files."""
        plain = await trio.to_thread.run_sync(self._objects.at_hand, ref)
        if plain is None:
            self._objects.expect(FIRST_ONES)
            plain = await self._objects.fetch(ref, ahead=True, optional=True)
        profile = await trio.to_thread.run_sync(decode, plain)
        self._objects.hot.add(ref.digest, profile)
        return profile

    def rest(self, start: Start) -> None:
        """Notes that a list fetches no more until some of its objects are used, so that another profile may
        begin."""
        self._schedule.ended(start)


class _Listed:
    """The objects of one profile, on their way in the order of their list."""

    def __init__(
        self,
        counts: ProfilePrefetch,
        objects: Objects,
        profile: Profile,
        listed: list[ObjectRef],
        start: Start,
        window: UnusedWindow,
    ) -> None:
        self._counts = counts
        self._objects = objects
        self._hot = {pack.ref: pack for pack in profile.packs}
        self._hot_digests = {pack.ref.digest for pack in profile.packs}
        self._listed = listed
        self._start = start
        self._window = window
        self._under_way: dict[ObjectRef, int] = {}
        """The objects under way, and the bytes that each counts for."""
        self._failed = 0
        self._changed = trio.Event()
        self._token = trio.lowlevel.current_trio_token()

    async def fetch(self, ready: trio.Event) -> bool:
        """Fetches the objects. Returns True if no object is left to fetch. Sets `ready` once readers can know
        what will come."""
        objects = self._objects
        missing = await trio.to_thread.run_sync(self._missing)
        objects.expect(min(len(missing), self._counts.most))
        listed = [ref.digest for ref in self._listed if ref not in self._hot]
        objects.count_listed(listed, self._window)
        objects.expected.update(ref.digest for ref in missing if ref not in self._hot)
        objects.due.update((ref.digest, self._window) for ref in missing if ref in self._hot)
        self._window.on_use.add(self._used)
        for ref in filter(objects.is_awaited, missing):  # asked for while the list was being read
            self._window.ask(ref)
        objects.loading.pop(ready, None)
        ready.set()
        try:
            for ref in missing:
                if not await self._room(ref):
                    return False
                self._begin(ref)
            while self._under_way:
                await self._wait()
            return not self._failed
        finally:
            self._window.on_use.discard(self._used)
            for ref in missing:
                self._gone(ref.digest)

    def _missing(self) -> list[ObjectRef]:
        return [ref for ref in self._listed if not self._is_here(ref)]

    def _is_here(self, ref: ObjectRef) -> bool:
        """Returns True if an object is in the cache, or if it is a hot pack most of whose files are in cached
        hot packs."""
        if self._objects.is_at_hand(ref):
            return True
        pack = self._hot.get(ref)
        return pack is not None and self._copied(pack) >= HERE * ref.size

    def _copied(self, pack: HotPack) -> int:
        """Returns the number of bytes of a hot pack's files that lie in other hot packs in the cache."""
        here: dict[ObjectRef, bool] = {pack.ref: False}
        found = 0
        for file in pack.files:
            for other in self._objects.hot.packs(file):
                if other not in here:
                    here[other] = self._objects.is_at_hand(other)
                if here[other]:
                    found += file.size
                    break
        return found

    async def _room(self, ref: ObjectRef) -> bool:
        """Waits until an object may be fetched. Returns False if the list is given up."""
        while self._objects.keeps and self._failures() < FAILURES:
            under_way = sum(self._under_way.values()) + self._objects.size_of(ref)
            room = not self._under_way or (
                len(self._under_way) < self._counts.most and under_way <= self._counts.share.bytes
            )
            if room and self._window.has_room(ref.size):
                return True
            if self._under_way:
                await self._wait()
                continue
            self._counts.rest(self._start)
            self._window.exhausted = True
            with trio.move_on_after(UNUSED_SECONDS) as patience:
                await self._wait()
            self._window.exhausted = False
            if patience.cancelled_caught:
                self._counts.given_up += 1
                log.info("profile %s is given up: what came of it is not used", self._start[0].hex())
                self._objects.hot.drop(self._start[0])
                return False
        return False

    def _failures(self) -> int:
        return self._failed + len(self._objects.hot.wrong & self._hot_digests)

    async def _wait(self) -> None:
        await self._changed.wait()
        self._changed = trio.Event()

    def _used(self) -> None:
        try:
            self._token.run_sync_soon(self._change, idempotent=True)
        except trio.RunFinishedError:
            pass  # the mount has ended

    def _change(self) -> None:
        self._changed.set()

    def _begin(self, ref: ObjectRef) -> None:
        if self._objects.is_at_hand(ref):  # a reader was first
            return
        self._window.begin(ref)
        self._objects.count_ahead(ref.digest, self._window)
        self._under_way[ref] = self._objects.size_of(ref)
        if not self._objects.bring(ref, partial(self._ended, ref), optional=True):
            self._ended(ref)

    def _ended(self, ref: ObjectRef) -> None:
        del self._under_way[ref]
        self._gone(ref.digest)
        if self._objects.is_at_hand(ref):
            self._counts.fetched += 1
        else:
            self._failed += 1
            self._counts.failed += 1
        self._changed.set()

    def _gone(self, digest: Digest) -> None:
        self._objects.expected.discard(digest)
        if self._objects.due.get(digest) is self._window:
            del self._objects.due[digest]
