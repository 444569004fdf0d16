"""Reads images in the workers of a concurrent.futures.Executor: processes on this machine, or Dask workers
anywhere."""

import concurrent.futures
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from lazyfs.core.digest import Digest
from lazyfs.core.errors import LazyfsError, TransportError
from lazyfs.core.printable import printable
from lazyfs.core.tree_paths import layer_path
from lazyfs.images.snapshot_form import SnapshotForm, form_of
from lazyfs.store.protocol import StoreError
from lazyfs.sync.conversion import Converted, Surroundings, convert, job_of
from lazyfs.sync.preparation import ImagePreparer, Job, PreparedImage
from lazyfs.sync.shared_lock import SharedLock

AT_ONCE = 64
"""The largest number of images that are given to the executor at a time; more workers would wait for the
registry anyway."""
LOOK = 1.0
"""Seconds between two checks whether the run has been stopped."""
HOURS = 12.0
"""Timeout in hours for reading one image: the same as the default time for one registry in a run."""


class LostWorker(LazyfsError):
    """The worker that read an image was lost, or the executor is broken."""


class _Suspect(LostWorker):
    """A worker was lost while it had this image, and perhaps others: any of them may have killed it."""


@dataclass(frozen=True)
class ExecutorPreparer:
    """Takes the place of ImagePreparer. `local`, an ImagePreparer, finds out which layers an image has. While
    an image is read, its layers are claimed, so that no two workers read the same layer.

    If a worker dies, the executor reports a failure for every image that this worker had, running or waiting,
    and not only for the one that killed it. Therefore each of these images is tried once more, while the
    executor has no other image of this run: if a worker dies then, this image has killed it.
    """

    local: ImagePreparer
    executor: concurrent.futures.Executor
    surroundings: Surroundings
    company: SharedLock = field(default_factory=SharedLock)
    """Held for each image while a worker has this image: at the first try together with other images, at a
    second try alone. The lock is taken before layers are claimed, so an image that waits for its second try
    claims no layers."""
    numbers: Iterator[int] = field(default_factory=itertools.count)
    """Yields a new number for each request, so that no two requests are equal (`convert` says why)."""

    def prepare(self, job: Job) -> PreparedImage:
        """Prepares an image like ImagePreparer.prepare. Raises LostWorker, which does not mean that other
        images fail too."""
        diff_ids = self.local.layers(job)
        try:
            with self.company.together():
                return self._prepare(job, diff_ids)
        except _Suspect:
            pass
        with self.company.alone(lambda: self.local.registries.stopped, LOOK) as held:
            if not held:
                raise LostWorker(f"{job.target.place}: its worker was lost, and the run ends")
            return self._prepare(job, diff_ids)

    def _prepare(self, job: Job, diff_ids: set[Digest]) -> PreparedImage:
        pending, tree = self.local.pending, self.local.tree()
        with pending.claim(tree, diff_ids, self.local.patience(job.target)):
            known: dict[str, SnapshotForm] = {}
            for diff_id in diff_ids:
                found = pending.find(layer_path(diff_id))
                if found is not None:
                    known[layer_path(diff_id)] = form_of(found)
            answer = self._answer(job, known)
            if answer.store_failed:
                raise StoreError(answer.failed)
            if answer.failed:
                raise TransportError(answer.failed) if answer.transient else LazyfsError(answer.failed)
            prepared = answer.prepared()
            pending.add(prepared.shared)
        for line in answer.notes:
            self.local.tell(line)
        return prepared

    def _answer(self, job: Job, known: dict[str, SnapshotForm]) -> Converted:
        place, request = job.target.place, job_of(job.target, job.digest)
        try:
            future = self.executor.submit(convert, self.surroundings, request, known, next(self.numbers))
            return self._wait(future, place)
        except LazyfsError:
            raise
        except concurrent.futures.CancelledError:
            raise LostWorker(f"{place}: its conversion was cancelled") from None
        except Exception as error:
            said = printable(f"{type(error).__name__}: {error}", 200)
            raise _Suspect(f"{place}: its worker was lost: {said}") from error

    def _wait(self, future: "concurrent.futures.Future[Converted]", place: str) -> Converted:
        end = time.monotonic() + HOURS * 3600
        while not concurrent.futures.wait([future], LOOK).done:
            if self.local.registries.stopped or time.monotonic() > end:
                future.cancel()
                raise LostWorker(f"{place}: the run ends, or its worker took over {HOURS:.0f} h")
        return future.result()
