"""The middle of a run: asks which digests tags name, reads the images whose tags have moved, and commits
them.

One thread decides and commits. Other threads ask registries and read images, several at a time; they put
their results into one queue.
"""

import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cached_property
from typing import NamedTuple

from lazyfs.core.errors import LazyfsError
from lazyfs.images.profiles.new_images import NewImageProfiles
from lazyfs.store.protocol import StoreConflict, StoreError
from lazyfs.sync.committer import Committer
from lazyfs.sync.conversion import Surroundings
from lazyfs.sync.executor_preparer import AT_ONCE, ExecutorPreparer
from lazyfs.sync.failures import Failure, failure_of
from lazyfs.sync.layout import multiarch_place
from lazyfs.sync.ledger import Arrival, Ledger
from lazyfs.sync.pending_layers import PendingLayers
from lazyfs.sync.preparation import ImagePreparer, Job, PreparedImage
from lazyfs.sync.quotas import OwnersRoom
from lazyfs.sync.report import MOVED, PUBLISHED
from lazyfs.sync.resolution import LOOK, Gone, Resolver
from lazyfs.sync.service import Service
from lazyfs.sync.targets import Target, Targets, alias_paths, all_paths

TRIES = 3
"""The largest number of times that a run asks a registry the same question, or reads the same image, while a
retry may help. Each time, the registry's client itself tries every request up to six times."""


class _Key(NamedTuple):
    """The identity of an image: targets with equal keys share one image, which is read once."""

    registry: str
    repository: str
    digest: str
    options: str


class _Asked(NamedTuple):
    target: Target
    answer: str | Gone | Failure
    tries: int


class _Read(NamedTuple):
    key: _Key
    result: PreparedImage | Failure | BaseException
    tries: int


class Publishing:
    """Brings the images of a run's targets into the tree."""

    def __init__(
        self,
        service: Service,
        committer: Committer,
        ledger: Ledger,
        resolver: Resolver,
        wished: Targets,
        room: OwnersRoom,
    ) -> None:
        self._service = service
        self._room = room
        self._committer = committer
        self._ledger = ledger
        self._resolver = resolver
        self._targets = list(wished.by_place.values())
        self._results: queue.SimpleQueue[_Asked | _Read] = queue.SimpleQueue()
        self._open = 0
        self._reading: dict[_Key, list[Target]] = {}
        self._done: dict[_Key, PreparedImage] = {}
        self._gone: dict[str, str] = {}
        self._since = service.monotonic()
        self._askers: dict[str, ThreadPoolExecutor] = {}
        self._stack = ExitStack()
        self._readers = self._pool(AT_ONCE if service.workers else service.settings.images_at_once, "image")

    @cached_property
    def _preparer(self) -> ImagePreparer | ExecutorPreparer:
        """The preparer that reads images; not made in a dry run."""
        service, committer = self._service, self._committer
        local = ImagePreparer(
            service.store,
            committer.read,
            committer.objects,
            committer.base.params,
            service.registries,
            PendingLayers(),
            lambda: committer.root,
            service.platform,
            service.platform_asked,
            service.tell,
            NewImageProfiles(inherit=service.starts.inherit, guess=service.starts.guess),
        )
        if service.workers is None:
            return local
        surroundings = Surroundings(
            service.workers.store,
            *committer.lease,
            service.platform,
            service.platform_asked,
            dict(service.registries.all_settings),
        )
        return ExecutorPreparer(local, service.workers.executor, surroundings)

    def run(self) -> dict[str, str]:
        """Publishes the images. Returns the images that their registries no longer know: place -> reason.
        Raises StoreError and StoreConflict; any other error of an image is in the ledger."""
        try:
            self._work()
        except BaseException:
            self._service.registries.stop()  # or threads would sit out their pauses of minutes
            raise
        finally:
            self._stack.close()
        self._commit()
        return self._gone

    def _work(self) -> None:
        for target in self._targets:
            self._committer.keep_alive()
            self._ask(target)
        while self._open:
            self._committer.keep_alive()  # also in a long run of tags that have not moved
            try:
                result = self._results.get(timeout=LOOK)
            except queue.Empty:
                self._commit_if_due()
                continue
            self._open -= 1
            if isinstance(result, _Asked):
                self._answered(result)
            else:
                self._was_read(result)
            self._commit_if_due()

    def _pool(self, threads: int, name: str) -> ThreadPoolExecutor:
        pool = ThreadPoolExecutor(threads, name)
        self._stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        return pool

    def _ask(self, target: Target, tries: int = 0) -> None:
        """Asks the registry, in another thread, which digest the target's tag names. Does not ask if the
        digest is known and its image is in the tree. `tries`: the number of earlier tries."""
        image = self._ledger.image(target.place)
        known = target.reference.digest
        fresh = image and image.checked + self._service.max_age > self._ledger.time
        if not known and image and fresh and image.digest and not image.error:
            known = image.digest
        if known and self._standing(target, known):
            self._unchanged(target, known, asked=False)
            return
        registry = target.reference.registry
        asker = self._askers.get(registry)
        if asker is None:
            parallel = self._service.registries.settings(registry).parallel
            asker = self._askers[registry] = self._pool(parallel, f"ask-{registry}")
        self._open += 1
        asker.submit(self._hand_over, lambda: _Asked(target, self._resolver.digest(target.reference), tries))

    def _hand_over(self, work: Callable[[], "_Asked | _Read"]) -> None:
        """Runs in a thread: does the work, and puts its result or its error into the queue."""
        try:
            self._results.put(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that decides
            nobody = _Key("", "", "", "")
            self._results.put(_Read(nobody, error, TRIES))

    def _answered(self, asked: _Asked) -> None:
        target, answer, tries = asked
        if isinstance(answer, Failure):
            if answer.transient and tries + 1 < TRIES and not self._service.dry_run:
                self._ask(target, tries + 1)
            else:
                self._ledger.fails(target, answer.reason)
        elif isinstance(answer, Gone):
            self._gone[target.place] = answer.reason
            self._ledger.fails(target, answer.reason)
        elif self._standing(target, answer):
            self._unchanged(target, answer, asked=True)
        else:
            self._changed(target, answer)

    def _changed(self, target: Target, digest: str) -> None:
        image = self._ledger.image(target.place)
        if image and image.failed_digest == digest and self._ledger.waits(target):
            return
        if self._service.dry_run:
            self._ledger.would(MOVED if image and image.digest else PUBLISHED, target.place, digest=digest)
            return
        reference = target.reference
        key = _Key(reference.registry, reference.repository, digest, target.options)
        if key in self._done:
            self._put(target, key)
        elif key in self._reading:
            self._reading[key].append(target)
        else:
            self._reading[key] = [target]
            self._read(key, 0)

    def _read(self, key: _Key, tries: int) -> None:
        job = Job(self._reading[key][0], key.digest)
        self._open += 1
        preparer = self._preparer

        def work() -> _Read:
            try:
                return _Read(key, preparer.prepare(job), tries)
            except (StoreError, StoreConflict):
                raise  # would fail the next image too
            except Exception as error:  # noqa: BLE001 - fails alone
                return _Read(key, failure_of(error), tries)

        self._readers.submit(self._hand_over, work)

    def _was_read(self, read: _Read) -> None:
        key, result, tries = read
        if isinstance(result, BaseException):
            raise result
        if isinstance(result, Failure):
            if result.transient and tries + 1 < TRIES:
                self._read(key, tries + 1)
                return
            for target in self._reading.pop(key):
                self._ledger.fails(target, result.reason, key.digest)
            return
        self._done[key] = result
        for target in self._reading.pop(key):
            self._put(target, key)

    def _put(self, target: Target, key: _Key) -> None:
        """Puts an image that was read into the next revision. Removes each path that the earlier version of
        the image has and the new version lacks."""
        prepared = self._done[key]
        if no_room := self._room.refusal(target.place, prepared.size):
            self._ledger.has_no_room(target, no_room, key.digest, prepared.size)
            return
        own = prepared.of(target, key.digest)
        try:
            self._committer.put({**prepared.shared, **own})
        except LazyfsError as error:
            self._ledger.fails(target, str(error), key.digest)
            return
        self._drop_stale(target, key.digest)
        self._ledger.arrives(Arrival(target, key.digest, prepared.config, prepared.size, prepared.private))
        self._service.tell(f"read {target.place} ({key.digest[:19]})")

    def _drop_stale(self, target: Target, digest: str) -> None:
        """Removes each path that the earlier version of the image has and the version of this digest lacks,
        unless another image has the path too."""
        image = self._ledger.image(target.place)
        stale = set(image.paths if image else ()) - set(all_paths(target, digest))
        if stale and not self._service.dry_run:
            stale -= self._ledger.paths(without=[target.place])
            self._committer.remove(sorted(stale))

    def _unchanged(self, target: Target, digest: str, *, asked: bool) -> None:
        """Notes that the tree has the image that the tag names. `asked`: True if the registry was asked
        now."""
        self._drop_stale(target, digest)
        config = self._committer.published.target(target.place) or ""
        private = self._resolver.needed_account(target.reference)
        self._ledger.found_unchanged(target, digest, config, asked=asked, private=private)

    def _standing(self, target: Target, digest: str) -> bool:
        """Returns True if the tree has the image of this digest at all paths of the target."""
        published = self._committer.published
        config = published.target(target.place)
        image = self._ledger.image(target.place)
        if config is None or (image and image.digest and image.options != target.options):
            return False
        links = [published.target(path) for path in alias_paths(target, digest)]
        platforms = [published.target(multiarch_place(one, target.place)) for one in target.platforms]
        return all(one == config for one in links) and None not in platforms

    def _commit_if_due(self) -> None:
        waiting = self._committer.waiting
        settings = self._service.settings
        late = self._service.monotonic() - self._since >= settings.minutes_per_revision * 60
        if waiting >= settings.images_per_revision or (waiting and late):
            self._commit()

    def _commit(self) -> None:
        self._since = self._service.monotonic()
        if self._service.dry_run or not self._committer.waiting:
            return
        self._committer.commit(self._ledger.paths())
        self._ledger.committed(self._committer.base.number)
        self._service.keep(self._ledger)
