"""Publishing: sources are prepared one by one, put into the tree, and committed as the next revision.

Write order: objects, catalogs, everything flushed, then the signed metadata. A publish that fails or is
killed leaves the old revision; the next publish finds the objects that the failed one has written.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from lazyfs.core.codec import LEVEL
from lazyfs.core.errors import UsageError
from lazyfs.core.params import Revision
from lazyfs.images.observer import PublishObserver
from lazyfs.images.prepare import SourcePreparer
from lazyfs.images.profiles.new_images import NewImageProfiles
from lazyfs.images.sources.open import ImageOptions
from lazyfs.repository.edit import Edit
from lazyfs.repository.keys import Keys
from lazyfs.repository.leases import PublisherLease
from lazyfs.store import Store


@dataclass(frozen=True)
class PublishOptions:
    """The options of a publish."""

    images: ImageOptions
    place: str | None = None
    level: int = LEVEL
    workers: int | None = None
    plain: bool = False
    """True to add no bind points or start-up files (`start_files`) to images."""
    bind_points: tuple[str, ...] = ()
    """Directories to add to images besides the standard bind points, relative to the image's root."""
    inherit_profiles: bool = True
    """True if a new image inherits the profile of the last image of the same registry's repository, as far as
    the profile applies to the new image."""
    guess_profiles: bool = False
    """True to guess a profile for a new image that inherits none."""
    observer: PublishObserver = field(default_factory=PublishObserver)


@dataclass(frozen=True)
class PublishReport:
    """The outcome of a publish."""

    revision: Revision
    changed: bool
    """False if the tree had all of it already, so that no revision was made."""
    places: dict[str, str]
    """Maps a source to the path in the tree at which it is published."""
    new_objects: int
    new_bytes: int
    """Stored bytes of the new objects."""


def publish(
    store: Store,
    keys: Keys,
    sources: Iterable[str],
    options: PublishOptions,
    now: Callable[[], datetime],
    lease: PublisherLease | None = None,
) -> PublishReport:
    """Publishes the sources as one revision: all of them or none. `lease`: a lease that the caller has taken
    and will end; None to take one here.

    Raises LazyfsError of one line for a source that cannot be read, or as Edit.commit; the revision is then
    unchanged.
    """
    places: dict[str, str] = {}
    with (
        Edit(store, keys, now, level=options.level, workers=options.workers, lease=lease) as edit,
        edit.kept_alive(),  # a source may be a pipe, or a large archive that is read twice
    ):
        preparer = SourcePreparer(
            edit.tree,
            edit.base.params,
            edit.ingest,
            options.images,
            options.observer,
            options.plain,
            options.bind_points,
            NewImageProfiles(inherit=options.inherit_profiles, guess=options.guess_profiles),
        )
        for source in sources:
            prepared = preparer.prepare(source, options.place)
            _check_distinct(source, prepared.place, places)
            places[source] = prepared.place
            for path, inode in prepared.changes.items():
                edit.put(path, inode)
        revision, changed = edit.commit()
    return PublishReport(revision, changed, places, edit.ingest.new_objects, edit.ingest.new_bytes)


def _check_distinct(source: str, place: str, places: dict[str, str]) -> None:
    for other, taken in places.items():
        if taken == place:
            raise UsageError(f"{source} and {other} would both be published as {place}")
