"""The façade of this package: one object for each repository, which is told of its reads and fetches
ahead."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import trio

from lazyfs.client.loop_calls import LoopCalls
from lazyfs.client.objects import Objects
from lazyfs.client.system_task import begin
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import LazyfsError
from lazyfs.core.pack import NO_PACKS
from lazyfs.core.profile import Profile, decode
from lazyfs.prefetch.guess_budget import GuessBudget, room_in
from lazyfs.prefetch.guess_budget import GuessCounts as GuessCounts
from lazyfs.prefetch.guesses import Guesses
from lazyfs.prefetch.heads import head_of
from lazyfs.prefetch.line_share import LineShare as LineShare
from lazyfs.prefetch.needed_by_programs import NeededByPrograms
from lazyfs.prefetch.policy import QUIET, PrefetchPolicy
from lazyfs.prefetch.profiles import ProfilePrefetch
from lazyfs.prefetch.programs import is_library, is_program
from lazyfs.prefetch.queue import PrefetchQueue
from lazyfs.prefetch.starts import ReadWatcher as ReadWatcher
from lazyfs.prefetch.starts import is_executable as is_executable
from lazyfs.prefetch.starts import tell
from lazyfs.prefetch.surroundings import Surroundings as Surroundings
from lazyfs.prefetch.upper_catalogs import UpperCatalogs
from lazyfs.prefetch.walk_ahead import WalkAhead
from lazyfs.vfs.content import ReadPlan
from lazyfs.vfs.missing_objects import Fetched, Need, NeedRepository
from lazyfs.vfs.paths_in_images import FileInImage, place_of, profile_of, siblings_at
from lazyfs.vfs.siblings import Siblings, siblings

if TYPE_CHECKING:
    from lazyfs.prefetch.whole_image import ImageProgress as ImageProgress
    from lazyfs.prefetch.whole_image import WholeImage as WholeImage

IMAGES = 64
"""The largest number of remembered jobs (WholeImage), ended ones included, for `lazyfs prefetch` to ask."""


class Prefetcher:
    """Fetches ahead for one repository.

    `on_read`, `on_miss`, `on_arrival` and `on_enter` are called from any thread, under the filesystem's lock,
    and return at once. The objects they choose are fetched later, in the event loop that the prefetcher was
    made in: the reader's own fetch begins first.
    """

    def __init__(self, objects: Objects, cache_limit: Callable[[], int], around: Surroundings) -> None:
        """Belongs to the trio run it is made in. `cache_limit` returns the bytes that the cache may hold."""
        self._objects = objects
        self._loop = LoopCalls()
        self._at_hand = QUIET
        """The number of reads since one had to wait."""
        self._policy = PrefetchPolicy()
        self._queue = PrefetchQueue(objects, around.share)
        self._profiles = ProfilePrefetch(objects, cache_limit, around.share)
        self._around = around
        self._cache_limit = cache_limit
        self._images: dict[Digest, WholeImage] = {}
        """The job of each image, by the digest of the image's top catalog."""
        self._budget = GuessBudget()
        self._guesses = Guesses(objects, around.demand, lambda: room_in(around.cache_space()), self._budget)
        self._walks = WalkAhead(objects, around.entries, around.lock, self._soon)
        self._programs = NeededByPrograms(objects, around.entries, around.lock, self._guesses)

    def on_open(self, root: ObjectRef, first: Iterable[ObjectRef] = ()) -> None:
        """Begins to fetch the repository's root catalog and those between it and its images. `first`: those
        of them that the revision names. Called in the event loop."""
        begin(UpperCatalogs(self._objects).run, root, first, name=f"catalogs below {root.digest.hex()[:12]}")

    def on_enter(self, image: ObjectRef, profile: ObjectRef | None, program: str = "") -> None:
        """Begins to fetch the objects of the profile of an image that is looked up: the profile made from
        workers' reports, or else the image's own. `image`: its top catalog. `profile`: its own. `program`:
        the one that is about to be started; empty if it is not known."""
        chosen = self._around.collected(image.digest) or profile
        if chosen is not None:
            self._soon(lambda: self._profiles.start(chosen, program))

    def _start(self, profile: ObjectRef) -> None:
        """Begins to fetch a profile. In the event loop's thread it begins at once, so that a reader whose
        miss is served there waits for the profile."""
        if self._loop.is_here:
            self._profiles.start(profile)
        else:
            self._soon(lambda: self._profiles.start(profile))

    def on_read(self, read: ReadPlan) -> None:
        """Notes a read when it begins, and fetches the objects that the policy chooses for it."""
        self._tell(read)
        for part in read.slices if self._budget.unused else ():
            if part.ref.digest in self._budget.unused:
                self._soon(partial(self._budget.used, part.ref.digest))
        self._fetch(self._walks.read(read), read)
        if self._at_hand >= QUIET:
            return
        self._at_hand += 1
        self._on_packed(read)
        next_ones = self._policy.on_read(read)
        if next_ones and not self._is_foreseen(read):
            self._fetch(next_ones, read)

    def _on_packed(self, read: ReadPlan) -> None:
        """Notes a read, and fetches other packs if its file lies in one."""
        if read.entry.pack_number >= 0 and read.entry.content not in self._objects.hot:
            try:
                file = siblings(self._around.entries, read.number)
                found = self._policy.on_packed(file) if file is not None else []
            except (Need, NeedRepository, OSError, LazyfsError):
                return  # it was dropped; or a directory near it is too large to be decoded here, or damaged
            self._fetch(found, read)

    def on_early_read(self, read: ReadPlan) -> None:
        """Tells the mount's ReadWatcher, if there is one, of a read that was answered before there was a
        prefetcher."""
        self._tell(read)

    def _tell(self, read: ReadPlan) -> None:
        if self._around.watcher is not None:  # most mounts report nothing
            tell(self._around.watcher, self._around.entries, read)

    def _profile_of(self, read: ReadPlan) -> ObjectRef | None:
        """Returns the profile of the image in which a file is read, if that is known."""
        try:
            top = self._around.entries.slot(read.number)[0].top
        except OSError:
            return None
        return self._around.collected(top.ref.digest) or profile_of(self._around.entries, read.number)

    def _is_foreseen(self, read: ReadPlan) -> bool:
        """Returns True if a profile is bringing what is read. The profile then knows what comes next too, and
        guesses would take the network from it."""
        file = read.small_file
        if file is not None:
            return self._objects.is_due(file)
        return any(self._objects.is_foreseen(part.ref.digest) for part in read.slices)

    def on_miss(self, read: ReadPlan, siblings: Siblings | None, fetched: Fetched) -> Digest | None:
        """Notes a read that has to wait for objects, and fetches other objects along with these. `siblings`:
        the directory around the file, if it is in one directory only. Returns the profile of the file's
        image, if it may still be loading and then bring a copy of the file."""
        if self._at_hand >= QUIET:
            self._on_packed(read)
        self._at_hand = 0
        if self._is_foreseen(read):
            return None
        profile = self._loading_for(read)
        self._soon(partial(self._budget.asked, sum(part.ref.size for part in read.slices)))
        self._fetch(self._policy.on_miss(read, siblings, head_of(read, self._objects, fetched)), read)
        self._fetch(self._walks.missed(read), read)
        if is_library(read.entry.name):
            self._fetch(self._other_libraries(read), read)
        return profile

    def _loading_for(self, read: ReadPlan) -> Digest | None:
        """Returns the profile to wait for before a small file is fetched. If nothing is known of copies of
        the file, begins to fetch the profile, unless it was begun before."""
        file = read.small_file
        if file is None:
            return None
        known = file.digest in self._objects.hot
        if known and not self._objects.loading:
            return None
        profile = self._profile_of(read)
        if profile is None:
            return None
        if not known:
            self._start(profile)
        return profile.digest

    def _other_libraries(self, read: ReadPlan) -> list[ObjectRef]:
        """Returns the objects of the other libraries in the directory of a missed library."""
        entries = self._around.entries
        place = place_of(entries, read.number)
        try:
            around = siblings_at(entries, place, read.entry.name) if place else None
        except (Need, NeedRepository, OSError, LazyfsError):
            return []  # the directory is too large, or was dropped
        found: list[ObjectRef] = []
        for entry in self._policy.libraries(around) if around else []:
            whole, chunks = entry.place(NO_PACKS), entry.chunks
            if whole is not None:
                found.append(whole.ref)
            elif chunks is not None:
                found += [chunks.chunk(index) for index in range(len(chunks))]
        return found

    def on_arrival(self, read: ReadPlan, fetched: Fetched) -> None:
        """Notes that a read which had to wait has its objects now; fetches more if its file is a program."""
        if self._is_foreseen(read):
            return
        head = head_of(read, self._objects, fetched)
        self._fetch(self._policy.on_arrival(read, head), read)
        place = place_of(self._around.entries, read.number) if is_program(read.entry, head) else None
        if place is not None:
            file = FileInImage(read.entry, place.packs, place.directory)
            self._soon(lambda: self._programs.arrived(file, place.top))

    def on_whole_image(self, top: ObjectRef, rate: float | None = None) -> "WholeImage":
        """Returns the job that fetches those objects of an image that are not in the cache yet: the job under
        way, or a new one of at most `rate` plaintext bytes a second. `top`: the image's top catalog. Called
        in the event loop."""
        return self._job(top.digest, rate, top, None)

    def _job(
        self, name: Digest, rate: float | None, top: ObjectRef, only: list[ObjectRef] | None
    ) -> "WholeImage":
        from lazyfs.prefetch.whole_image import AT_ONCE, WholeImage  # few mounts fetch one

        job = self._images.get(name)
        if job is None or job.over:
            job = self._images[name] = WholeImage(
                self._objects,
                self._around.demand,
                self._cache_limit,
                top,
                at_once=self._around.share.of(AT_ONCE),
                only=only,
                rate=rate,
            )
            if not begin(job.run, name=f"image {name.hex()[:12]}"):
                raise LazyfsError("the mount is ending")
            while len(self._images) > IMAGES:
                del self._images[next(iter(self._images))]
        return job

    async def profile(self, image: ObjectRef, own: ObjectRef | None) -> tuple[ObjectRef, Profile] | None:
        """Returns the reference and the content of the profile that a start of an image uses; None if there
        is none. `own`: the reference of the image's own profile. Raises TransportError, BadData,
        FormatError."""
        ref = self._around.collected(image.digest) or own
        if ref is None:
            return None
        plain = await trio.to_thread.run_sync(self._objects.at_hand, ref)
        return ref, decode(await self._objects.fetch(ref, ahead=True) if plain is None else plain)

    def on_profile(self, name: Digest, listed: list[ObjectRef], rate: float | None = None) -> "WholeImage":
        """Returns the job that fetches the objects that a profile lists: the job under way, or a new one.
        `name`: the name under which `whole_image` finds the job. `rate`: the largest number of plaintext
        bytes a second; None for no limit."""
        return self._job(name, rate, ObjectRef(name, 0), listed)

    def whole_image(self, top: Digest) -> "WholeImage | None":
        """Returns the job of the image with this top catalog, if one is under way or has ended lately."""
        return self._images.get(top)

    def profiled(self) -> dict[str, int]:
        """Returns the counts of profiles: `fetched` and `failed` are numbers of objects, `given_up` is the
        number of profiles that were given up because nobody used what came."""
        return {
            "fetched": self._profiles.fetched,
            "failed": self._profiles.failed,
            "given_up": self._profiles.given_up,
        }

    def guesses(self) -> GuessCounts:
        """Returns the counts of the fetches on a guess, and of their outcomes."""
        return self._budget.counts()

    def _fetch(self, refs: Iterable[ObjectRef], read: ReadPlan) -> None:
        if refs:
            self._soon(partial(self._queue.start, refs, self._image_of(read)))

    def _image_of(self, read: ReadPlan) -> int:
        """Returns the number of the slot of the image in which a file is read; 0 if the kernel has forgotten
        the file's number."""
        try:
            return self._around.entries.slot(read.number)[0].top.number
        except OSError:
            return 0

    def _soon(self, call: Callable[[], None]) -> None:
        """Calls `call` later in the event loop, so that the reader's own fetch begins first."""
        self._loop.soon(call)
