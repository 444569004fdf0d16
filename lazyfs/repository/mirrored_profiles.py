"""Copies the list of collected profiles, and the profiles that it names, into a copy of a repository.

Profiles are hints. So a profile that cannot be copied is only a problem in the report, and everything else is
copied all the same.
"""

from collections.abc import Callable
from typing import NamedTuple

from tuf.api.metadata import Targets

from lazyfs.core import collected_profiles
from lazyfs.core.collected_profiles import CollectedProfile
from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import BadData, NotFound, TrustError
from lazyfs.core.reach import Reached, profile_at, profiles_at
from lazyfs.core.trust.delegation import is_delegated, load_profiles
from lazyfs.core.trust.roles import PROFILES_FILE
from lazyfs.store import ReadableStore, Store, reader


class Copying(NamedTuple):
    """The functions with which a run copies objects."""

    below: Callable[[Reached], None]
    """Copies the objects that an object leads to, then the object itself."""
    one: Callable[[Reached], None]
    """Copies an object alone."""


def copy_profiles(
    source: ReadableStore,
    target: Store,
    publisher: Targets,
    copying: Copying,
    wanted: Callable[[CollectedProfile], bool],
) -> list[str]:
    """Copies the source's list of collected profiles, with the profiles that are `wanted`, and returns the
    problems, one line each. `publisher`: the targets of the copied revision, which name the keys of the list.

    Does nothing if nobody may sign a list, if there is none, or if the target has a newer one. Raises
    StoreError and TransportError, but not NotFound.
    """
    data = source.read_metadata(PROFILES_FILE) if is_delegated(publisher) else None
    if data is None:
        return []
    problems: list[str] = []
    try:
        signed, ref = load_profiles(data, publisher)
        before = target.read_metadata(PROFILES_FILE)
        if before is not None and _version(before, publisher) > signed.version:
            return [f"metadata/{PROFILES_FILE} is older than the copy's: a proxy lags behind"]
        holder = target if target.has(ref.digest) else source
        for profile in collected_profiles.decode(reader(holder)(ref)):
            if wanted(profile):
                problems += _copy_profile(profile.profile, copying)
        copying.one(profiles_at(ref))
    except (BadData, NotFound) as error:
        return [*problems, f"metadata/{PROFILES_FILE} is not copied: {error}"]
    if data != before:
        target.sync()
        with target.exclusive():
            target.write_metadata(PROFILES_FILE, data, expected=before)
    return problems


def _copy_profile(ref: ObjectRef, copying: Copying) -> list[str]:
    try:
        copying.below(profile_at(ref))
    except (BadData, NotFound) as error:
        return [f"a collected profile is not copied: {error}"]
    return []


def _version(data: bytes, publisher: Targets) -> int:
    """Returns the version of a signed list; 0 if its key may no longer sign lists."""
    try:
        return load_profiles(data, publisher)[0].version
    except TrustError:
        return 0
