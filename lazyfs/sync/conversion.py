"""The requests and answers between a run and the processes that read images for it.

Such a process has the store, the registries' settings and the run's lease, but no key: it writes objects and
commits nothing.
"""

import threading
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from lazyfs.core.oci.manifest import Platform
from lazyfs.core.oci.reference import Reference
from lazyfs.images.snapshot_form import SnapshotForm, form_of, inode_of
from lazyfs.repository.commit import read_revision
from lazyfs.repository.leases import LeasedObjects, PublisherLease
from lazyfs.store import open_store, reader
from lazyfs.store.protocol import StoreConflict, StoreError
from lazyfs.store.recent_objects import RecentObjects
from lazyfs.sync.failures import failure_of
from lazyfs.sync.pending_layers import PendingLayers
from lazyfs.sync.preparation import ImagePreparer, Job, PreparedImage
from lazyfs.sync.registries import Registries
from lazyfs.sync.settings import RegistrySettings
from lazyfs.sync.targets import Target


class Surroundings(msgspec.Struct, frozen=True):
    """The settings that are the same for all conversions of one run. They hold no secret: the registries'
    settings name files of secrets."""

    store: str
    lease: str
    """The token of the run's lease."""
    lease_seconds: float
    platform: Platform
    platform_asked: bool
    registries: dict[str, RegistrySettings]


class ImageJob(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request to read one image."""

    reference: Reference
    digest: str
    """The digest that the image's tag names."""
    platforms: tuple[Platform, ...] = ()
    bind_points: tuple[str, ...] = ()
    osg: bool = False

    def target(self) -> Target:
        """Returns the Target that this request was made from, with those of its fields that the tree's layout
        needs."""
        return Target(self.reference, platforms=self.platforms, bind_points=self.bind_points, osg=self.osg)


def job_of(target: Target, digest: str) -> ImageJob:
    """Returns the request to read a target's image."""
    return ImageJob(target.reference, digest, target.platforms, target.bind_points, target.osg)


class Converted(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to an ImageJob: the image, or why it could not be read."""

    shared: dict[str, SnapshotForm] = {}
    own: dict[str, SnapshotForm] = {}
    place: str = ""
    config: str = ""
    size: int = 0
    private: bool = False
    notes: list[str] = []
    failed: str = ""
    transient: bool = False
    store_failed: bool = False
    """True if the store failed, not the image: the next image would fail too."""

    def prepared(self) -> PreparedImage:
        """Returns the image in the form that is put into the tree."""
        return PreparedImage(
            {path: inode_of(form) for path, form in self.shared.items()},
            {path: inode_of(form) for path, form in self.own.items()},
            self.place,
            self.config,
            self.size,
            self.private,
        )


def converted_of(prepared: PreparedImage, notes: list[str]) -> Converted:
    """Returns the answer for an image that was read; `notes`: its warnings."""
    return Converted(
        {path: form_of(inode) for path, inode in prepared.shared.items()},
        {path: form_of(inode) for path, inode in prepared.own.items()},
        prepared.place,
        prepared.config,
        prepared.size,
        prepared.private,
        notes,
    )


class _Tools(NamedTuple):
    """The objects that a process keeps open between two images of a run."""

    surroundings: Surroundings
    objects: LeasedObjects
    registries: Registries
    preparer: ImagePreparer
    pending: PendingLayers


_mutex = threading.Lock()
_tools: list[_Tools] = []
"""The tools of the run that this process works for; at most one element."""


def open_tools(surroundings: Surroundings) -> _Tools:
    """Returns the tools for conversions; makes them at the first call for each run."""
    with _mutex:
        if _tools and _tools[0].surroundings == surroundings:
            return _tools[0]
        for other in _tools:
            other.registries.close()
        _tools.clear()
        store = open_store(surroundings.store)
        lease = PublisherLease(
            store, lambda: datetime.now(UTC), length=surroundings.lease_seconds, token=surroundings.lease
        )
        objects = LeasedObjects(store, lease)
        registries = Registries(surroundings.registries)
        pending = PendingLayers()
        base = read_revision(store)
        preparer = ImagePreparer(
            store,
            RecentObjects(reader(store)),
            objects,
            base.params,
            registries,
            pending,
            lambda: base.root,
            surroundings.platform,
            surroundings.platform_asked,
            lambda _line: None,
        )
        _tools.append(_Tools(surroundings, objects, registries, preparer, pending))
        return _tools[0]


def convert(
    surroundings: Surroundings, job: ImageJob, layers: dict[str, SnapshotForm], _number: int = 0
) -> Converted:
    """Reads an image and writes its contents to the store. `layers`: the snapshots, by path, of the layers
    that this run has stored but not yet committed to the tree; these layers are not read again. `_number`:
    differs from request to request of a run, because Dask answers a call that equals an earlier one with the
    outcome of that one. Returns errors in the answer; raises none."""
    notes: list[str] = []
    try:
        tools = open_tools(surroundings)
        tools.pending.add({path: inode_of(form) for path, form in layers.items()})
        prepared = tools.preparer.telling(notes.append).prepare(Job(job.target(), job.digest))
        tools.preparer.store.sync()
        return converted_of(prepared, notes)
    except (StoreError, StoreConflict) as error:
        return Converted(failed=str(error), store_failed=True)
    except Exception as error:  # noqa: BLE001 - fails alone
        failure = failure_of(error)
        return Converted(failed=failure.reason, transient=failure.transient)
