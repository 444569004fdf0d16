"""Makes profiles of the collected reports, and publishes the list of these profiles, signed with a key that
`lazyfs repo delegate` has made for this purpose.

No new revision is made: the list has signed metadata of its own. Images that already have a recorded or
imported profile in the tree are left out of the list.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from lazyfs.core import bounds, profile
from lazyfs.core.collected_profiles import MOST_IMAGES, CollectedProfile
from lazyfs.core.digest import Digest, ObjectRef, sha256
from lazyfs.core.errors import BadData, NotFound
from lazyfs.images.profiles.hot_packs import ProfileWriter
from lazyfs.images.profiles.published import profile_at
from lazyfs.repository.commit import read_revision
from lazyfs.repository.delegation import DAYS, publish_list, published_list
from lazyfs.repository.diff import resolve
from lazyfs.repository.keys import Keys
from lazyfs.repository.leases import LeasedObjects, PublisherLease
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import Store
from lazyfs.store.ingest import Ingest
from lazyfs.sync.collecting.image_objects import RepositoryImages
from lazyfs.sync.collecting.reports import Reports

LEAST_STARTS: Final = 3
"""The smallest number of reported starts from which a program gets a profile; with fewer, one reporter alone
could decide what the profile lists."""
_BY_HAND = (profile.Origin.RECORDED, profile.Origin.IMPORTED)

Wanted = Mapping[Digest, Mapping[str, Sequence[Digest]]]
"""The objects and small files that profiles are to list, by the digest of the image's top catalog and by
program."""


class PublishedImages(NamedTuple):
    """The outcome of a publication."""

    images: int
    """The number of images in the published list of profiles."""
    made: int
    """The number of profiles that were newly made."""
    changed: bool
    """True if a new list was published; False if the published list needed no change."""
    faults: tuple[str, ...]
    """A line for each image that is damaged, so that no profile can be made of it, and for which the
    publication before did not have the same line."""


class ProfilePublisher:
    """Publishes the collected profiles of one repository."""

    def __init__(self, store: Store, keys: Keys, now: Callable[[], datetime], least: int) -> None:
        """`least`: the smallest number of reported starts from which a program gets a profile."""
        self._store = store
        self._keys = keys
        self._now = now
        self._least = least
        self._made: dict[Digest, tuple[Digest, ObjectRef]] = {}
        """For each image: (the hash of the programs and contents that its profile was made from, the
        profile's object)."""
        self._faults: frozenset[str] = frozenset()

    def publish(self, wanted: Wanted, images: RepositoryImages) -> PublishedImages:
        """Makes the profiles that are missing, and publishes the list if it has changed or expires soon. A
        damaged image keeps the profile that the published list has for it.

        `wanted`: the contents that the profiles are to list, from the method `wanted`. Raises UsageError if
        the keys may not sign profiles; StoreConflict; StoreError.
        """
        lease = PublisherLease(self._store, self._now)
        try:
            objects = LeasedObjects(self._store, lease)
            with Ingest(objects, read_revision(self._store).params) as ingest:
                return self._publish(wanted, images, ingest)
        finally:
            lease.end_if_possible()

    def _publish(self, wanted: Wanted, images: RepositoryImages, ingest: Ingest) -> PublishedImages:
        before = published_list(self._store)
        earlier = dict(before.profiles) if before is not None else {}
        made, listed, faults = 0, [], []
        for image, programs in sorted(wanted.items()):
            try:
                ref, is_new = self._profile(image, programs, images, ingest)
            except (NotFound, BadData) as error:
                ref, is_new = earlier.get(image), False
                if ref is not None and not ingest.has(ref.digest):
                    ref = None
                faults.append(f"no new profile of {images.path_of(image)}, which is damaged: {error}")
            made += is_new
            if ref is not None:
                listed.append(CollectedProfile(image, ref))
        if before is None:
            changed = bool(listed)
        else:
            soon = self._now() + timedelta(days=DAYS / 2)
            changed = before.signed.expires <= soon or sorted(before.profiles) != listed
        if changed:
            publish_list(self._store, self._keys, listed, ingest.put, self._now())
        untold = tuple(fault for fault in faults if fault not in self._faults)
        self._faults = frozenset(faults)
        return PublishedImages(len(listed), made, changed, untold)

    def wanted(self, reports: Reports, images: RepositoryImages) -> Wanted:
        """Returns the contents that the profiles are to list, for each program with enough reported starts.
        Deletes from `reports` the images that the newest revision does not have."""
        for image in reports.images():
            if image not in images:
                reports.forget(image)
        found: dict[Digest, dict[str, list[Digest]]] = {}
        for key, one in reports.programs(self._least):
            programs = found.setdefault(key.image, {})
            if len(programs) < bounds.PROGRAMS:
                programs[key.program.decode(errors="replace")] = one.kept()
        return dict(list(found.items())[-MOST_IMAGES:])

    def _profile(
        self,
        digest: Digest,
        programs: Mapping[str, Sequence[Digest]],
        images: RepositoryImages,
        ingest: Ingest,
    ) -> tuple[ObjectRef | None, bool]:
        """Returns (the profile of an image, True if it was made by this call). `digest`: of the image's top
        catalog. `programs`: the contents that the profile is to list, by program. There is no profile (None)
        for an image that has left the tree or has a recorded or imported profile, or if nothing of the image
        was touched."""
        image = images.find(digest, float("-inf"))
        if image is None or _by_hand(images.tree, image.path):
            return None, False
        content = sha256(repr(sorted(programs.items())).encode())
        known = self._made.get(digest)
        if known is not None and known[0] == content and ingest.has(known[1].digest):
            return known[1], False
        written = ProfileWriter(images.tree, image.top, ingest).write(programs, profile.Origin.RECORDED)
        if written is None:
            return None, False
        self._made[digest] = content, written.ref
        return written.ref, True


def _by_hand(tree: StoredTree, path: str) -> bool:
    found = profile_at(resolve(tree, path))
    return found is not None and found.profile.origin in _BY_HAND
