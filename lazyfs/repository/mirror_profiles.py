"""Copies the list of collected profiles into a copy of a repository, with the profiles and their hot packs.

The list has signed metadata of its own and belongs to no revision, so it may be new when the revision is not.
"""

from collections.abc import Callable, Collection

from tuf.api.metadata import Targets

from lazyfs.core import codec, collected_profiles
from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import BadData, NotFound, TrustError
from lazyfs.core.reach import ObjectKind, Reached, leads_to
from lazyfs.core.trust.delegation import is_delegated, load_profiles
from lazyfs.core.trust.roles import PROFILES_FILE
from lazyfs.store import ReadableStore, Store


def copy_profiles(
    source: ReadableStore, target: Store, publisher: Targets, copy: Callable[[Collection[ObjectRef]], None]
) -> None:
    """Brings the list of collected profiles in `target` to that of `source`: objects first, then the signed
    file. `publisher`: the targets of the revision that both have. `copy`: copies objects and verifies them.

    Does nothing if the source has no list that the publisher lets somebody sign, or none newer than the
    copy's. Passes over a profile that is missing or damaged, because no image depends on it. Raises NotFound
    or BadData for the list itself, TransportError, StoreError, StoreConflict.
    """
    if not is_delegated(publisher):
        return
    data, before = source.read_metadata(PROFILES_FILE), target.read_metadata(PROFILES_FILE)
    version = _version(data, publisher)
    if data is None or version <= _version(before, publisher):
        return
    _, ref = load_profiles(data, publisher)
    for one in collected_profiles.decode(codec.open_object(source.get(ref.digest), ref)):
        at = Reached(one.profile, ObjectKind.PROFILE)
        try:
            plain = codec.open_object(source.get(one.profile.digest), one.profile)
            copy({found.ref for found in leads_to(at, plain)} | {one.profile})
        except (NotFound, BadData):
            continue
    copy([ref])
    target.sync()
    with target.exclusive():
        target.write_metadata(PROFILES_FILE, data, expected=before)


def _version(data: bytes | None, publisher: Targets) -> int:
    """Returns the version of a signed list; 0 if there is none, or if its key may not sign it."""
    if data is None:
        return 0
    try:
        return load_profiles(data, publisher)[0].version
    except TrustError:
        return 0
