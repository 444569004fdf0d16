"""Shows the root of a mount if this takes no server: the folder of a site, or the last trusted revision of a
repository.

The revision's signatures, versions and hashes are checked anew. Everything else, which only misses and
refreshes need, is imported and connected once the mount answers.
"""

import os
from contextlib import suppress
from typing import NamedTuple

from lazyfs.client.local_cache import LocalCache
from lazyfs.client.objects_at_hand import ObjectsAtHand
from lazyfs.client.trust.saved_trust import trusted_revision
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import FormatError, TransportError
from lazyfs.core.params import Revision
from lazyfs.core.profile import decode
from lazyfs.daemon.private_repositories import namespace, state_key
from lazyfs.daemon.settings import Settings
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.open_repository import OpenRepository
from lazyfs.transport.addresses import addresses_of
from lazyfs.vfs.content import ReadPlan
from lazyfs.vfs.missing_objects import NOTHING, Fetched, Need
from lazyfs.vfs.siblings import Siblings

MOST_READS = 4096
"""The largest number of reads that are kept until there is a prefetcher, some 0.1 s after the mount
answers."""


class EnteredImages:
    """The images that programs enter before there is a prefetcher. Implements `Prefetching`."""

    def __init__(self, objects: ObjectsAtHand) -> None:
        self._objects = objects
        self.images: list[tuple[ObjectRef, ObjectRef | None, str]] = []
        """The images that were entered: the top catalog of each, its profile, and the program that is
        started."""
        self.reads: list[ReadPlan] = []

    def on_enter(self, image: ObjectRef, profile: ObjectRef | None, program: str = "") -> None:
        """Notes an image. If its profile is at hand, the small files in the profile's hot packs are read from
        there from now on."""
        self.images.append((image, profile, program))
        plain = self._objects.at_hand(profile) if profile is not None else None
        if profile is not None and plain is not None:
            with suppress(FormatError):  # the prefetcher reports it
                self._objects.hot.add(profile.digest, decode(plain))

    def on_read(self, read: ReadPlan) -> None:
        """Keeps the first MOST_READS reads, for the report of a start (`Prefetcher.on_early_read`). Fetches
        nothing ahead: no reader is known to be sequential yet."""
        if len(self.reads) < MOST_READS:
            self.reads.append(read)

    def on_miss(self, read: ReadPlan, siblings: Siblings | None, fetched: Fetched) -> None:
        """Does nothing: no miss is served yet."""

    def on_arrival(self, read: ReadPlan, fetched: Fetched) -> None:
        """Does nothing: no miss is served yet."""


class _Unconnected(ObjectsAtHand):
    """The objects of a repository that is not connected yet."""

    async def fetch(self, ref: ObjectRef, *, deadline: float | None = None, hurried: bool = False) -> bytes:  # noqa: ARG002
        raise TransportError(f"object {ref.digest.hex()}: the repository is not connected yet")

    async def fetch_copy(
        self,
        file: ObjectRef,  # noqa: ARG002
        profile: Digest | None = None,  # noqa: ARG002
        *,
        deadline: float | None = None,  # noqa: ARG002
    ) -> dict[Digest, bytes]:
        return {}


class KnownRepository(NamedTuple):
    """The only repository of a mount, shown at its last trusted revision."""

    revision: Revision
    entered: EnteredImages


def show_known(
    settings: Settings, state_dir: str, cache: LocalCache, filesystem: Filesystem
) -> KnownRepository | None:
    """Shows the last trusted revision of a mount's only repository, if its root catalog is at hand.

    Returns None if it is not, or if no revision is trusted: then the servers have to be asked. Raises
    UsageError for a source that cannot be connected.
    """
    source = settings.single_source()
    name = repository_name(settings)
    addresses_of(source.url, source.proxy, name)
    if settings.lower is not None:
        addresses_of(settings.lower, None, name)
    if source.revision is not None:
        return None  # its history has to be read
    if settings.http == "pycurl" and not _is_installed("pycurl"):
        return None  # connecting reports the fault
    revision = trusted_revision(
        os.path.join(state_dir, state_key(source.url, name)), source.url, source.trust, settings.max_stale
    )
    if revision is None:
        return None
    private = namespace(source.url, name, certificate=source.client_cert is not None)
    objects = _Unconnected(cache, private)
    try:
        filesystem.tree.parsed.catalog(revision.name, revision.root, objects, NOTHING)
    except (Need, FormatError):  # not at hand, or too large to be decoded before there are threads for it
        return None
    known = KnownRepository(revision, EnteredImages(objects))
    filesystem.show(
        OpenRepository(revision.name, objects, revision.root, revision.number, known.entered, is_newest=False)
    )
    return known


def _is_installed(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


def repository_name(settings: Settings) -> str:
    """Returns the name that replaces @repo@ in the URL of a mount's only repository."""
    return os.path.basename(settings.mountpoint)
