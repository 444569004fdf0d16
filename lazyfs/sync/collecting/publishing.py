"""Makes profiles of what was reported, and publishes their list with the delegated key.

No revision is made, and nothing of the tree changes. An image whose publisher has recorded or imported a
profile keeps that one alone.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from lazyfs.core import codec, profile
from lazyfs.core.collected_profiles import MOST_IMAGES, CollectedProfile
from lazyfs.core.digest import Digest, ObjectRef, sha256
from lazyfs.images.profiles.bundles import BundleWriter, within_bounds
from lazyfs.images.profiles.publish import profile_members
from lazyfs.images.profiles.published import profile_at
from lazyfs.repository.delegation import DAYS, publish_list, published_list
from lazyfs.repository.diff import resolve
from lazyfs.repository.keys import Keys
from lazyfs.repository.leases import LeasedObjects, PublisherLease
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import ObjectSink, Store
from lazyfs.sync.collecting.image_objects import RepositoryImages
from lazyfs.sync.collecting.reports import ProgramKey, Reports

LEAST_STARTS: Final = 3
"""Fewest starts of a program for a profile: then one reporter alone never decides what is in it."""
_BY_HAND = (profile.Origin.RECORDED, profile.Origin.IMPORTED)


class PublishedPrograms(NamedTuple):
    """The outcome of a publication."""

    programs: int
    """Programs in the list."""
    made: int
    """Profiles made anew."""
    changed: bool
    """False if the list that is published is as it should be."""


class ProfilePublisher:
    """Publishes the collected profiles of one repository."""

    def __init__(self, store: Store, keys: Keys, now: Callable[[], datetime], least: int) -> None:
        """`least`: fewest starts of a program for a profile of it."""
        self._store = store
        self._keys = keys
        self._now = now
        self._least = least
        self._made: dict[ProgramKey, tuple[Digest, ObjectRef]] = {}
        """Program -> what its profile was made of, hashed, and the profile."""

    def publish(self, wanted: dict[ProgramKey, list[Digest]], images: RepositoryImages) -> PublishedPrograms:
        """Makes the profiles that are missing, and publishes the list if it changes or expires soon.

        `wanted`: program -> the objects of its profile. Raises UsageError if the keys may not sign profiles,
        StoreConflict, StoreError.
        """
        lease = PublisherLease(self._store, self._now)
        try:
            objects = LeasedObjects(self._store, lease)
            made, listed = 0, []
            for key, touched in sorted(wanted.items()):
                ref, is_new = self._profile(key, touched, images, objects)
                made += is_new
                if ref is not None:
                    listed.append(CollectedProfile(key.image, key.program, ref))
            before = published_list(self._store)
            soon = self._now() + timedelta(days=DAYS / 2)
            fresh = before is not None and before.signed.expires > soon
            if before is not None and fresh and sorted(before.profiles) == listed:
                return PublishedPrograms(len(listed), made, changed=False)
            if before is None and not listed:
                return PublishedPrograms(0, made, changed=False)
            put = _putter(objects)
            publish_list(self._store, self._keys, listed, put, self._now())
            return PublishedPrograms(len(listed), made, changed=True)
        finally:
            lease.end_if_possible()

    def wanted(self, reports: Reports, images: RepositoryImages) -> dict[ProgramKey, list[Digest]]:
        """Returns what the profiles are to be made of; drops the reports of images that are gone."""
        for image in reports.images():
            if image not in images:
                reports.forget(image)
        found: dict[ProgramKey, list[Digest]] = {}
        for key, one in reports.programs(self._least):
            if len({key.image for key in found} | {key.image}) <= MOST_IMAGES:
                found[key] = one.kept()
        return found

    def _profile(
        self, key: ProgramKey, touched: Sequence[Digest], images: RepositoryImages, objects: ObjectSink
    ) -> tuple[ObjectRef | None, bool]:
        """Returns the profile of a program, and whether it was made now; no profile if the publisher has made
        one by hand, or if the image is gone."""
        image = images.find(key.image, float("-inf"))
        if image is None or _by_hand(images.tree, image.path):
            return None, False
        content = sha256(b"".join(touched))
        known = self._made.get(key)
        if known is not None and known[0] == content and objects.has(known[1].digest):
            return known[1], False
        ref = _make_profile(self._store, objects, images.tree, image.top, touched)
        if ref is not None:
            self._made[key] = content, ref
        return ref, ref is not None


def _by_hand(tree: StoredTree, path: str) -> bool:
    found = profile_at(resolve(tree, path))
    return found is not None and found.origin in _BY_HAND


def _make_profile(
    store: Store, objects: ObjectSink, tree: StoredTree, top: ObjectRef, touched: Sequence[Digest]
) -> ObjectRef | None:
    """Stores a profile of these objects of an image; returns None if the image has none of them."""
    members = list(within_bounds(profile_members(tree, top, dict.fromkeys(touched))))
    if not members:
        return None
    bundles = BundleWriter(store, objects).write(members)
    return _putter(objects)(profile.encode(bundles))


def _putter(objects: ObjectSink) -> Callable[[bytes], ObjectRef]:
    def put(plain: bytes) -> ObjectRef:
        ref = ObjectRef(sha256(plain), len(plain))
        if not objects.has(ref.digest):
            objects.put(ref.digest, codec.encode(plain))
        return ref

    return put
