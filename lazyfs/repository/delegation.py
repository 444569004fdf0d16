"""The right to sign collected profiles. A publisher delegates this right to the key of a collector of
reports, which signs its list of profiles with the key; the publisher can withdraw the right."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Delegations, Key, Targets

from lazyfs.core import collected_profiles
from lazyfs.core.collected_profiles import CollectedProfile
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import BadData, NotFound, TrustError, UsageError
from lazyfs.core.reach import leads_to, profile_at
from lazyfs.core.trust.delegation import delegations, is_delegated, load_profiles, to_targets
from lazyfs.core.trust.roles import PROFILES, PROFILES_FILE
from lazyfs.repository.commit import TIMESTAMP_DAYS, read_committed, sign_metadata, write_revision
from lazyfs.repository.keys import Keys
from lazyfs.store import ReadableStore, Store, reader

DAYS = 30
"""Days until a signed list of profiles expires. Clients ignore an expired list, so the profiles of a
collector that has stopped do not stay in use; a running collector renews its list once half of that time has
passed."""


def delegate(
    store: Store,
    keys: Keys,
    make: Callable[[], Sequence[CryptoSigner]],
    now: datetime,
) -> None:
    """Delegates the right to sign profiles to the keys made by `make`; keys that have the right already keep
    it. Signs the committed revision again, with the publisher's and the timestamp's keys in `keys`. Raises
    UsageError if `keys` lacks one of these."""
    _change(store, keys, lambda before: [*before, *(signer.public_key for signer in make())], now)


def withdraw(store: Store, keys: Keys, now: datetime) -> int:
    """Withdraws the right to sign profiles from all delegated keys; returns their number. Raises as
    `delegate`."""
    return len(_change(store, keys, lambda _: [], now))


def _change(store: Store, keys: Keys, change: Callable[[list[Key]], list[Key]], now: datetime) -> list[Key]:
    with store.exclusive():
        committed = read_committed(store)
        root, proven = committed.state.root, committed.proven
        for role in ("targets", "snapshot", "timestamp"):
            keys.require(root, role, "--keys")
        before = delegated_keys(proven.targets)
        after = change(before)
        new = delegations(after) if after else Delegations({}, {})
        write_revision(store, keys, root, proven.revision, proven, now, TIMESTAMP_DAYS, delegations=new)
        return before


def delegated_keys(targets: Targets) -> list[Key]:
    """Returns the keys that may sign profiles."""
    if not is_delegated(targets):
        return []
    assert targets.delegations is not None
    return [targets.get_key(keyid) for keyid in targets.get_delegated_role(PROFILES).keyids]


class PublishedList(NamedTuple):
    """The list of collected profiles in a store, with its signed file."""

    signed: Targets
    ref: ObjectRef
    profiles: list[CollectedProfile]


def signed_list(store: ReadableStore, publisher: Targets) -> tuple[Targets, ObjectRef] | None:
    """Returns the signed file of the collected profiles and the list that it names; None if there is none, or
    if nobody may sign one. `publisher`: the targets of the committed revision. Raises TrustError,
    StoreError."""
    data = store.read_metadata(PROFILES_FILE) if is_delegated(publisher) else None
    return None if data is None else load_profiles(data, publisher)


def published_list(store: ReadableStore) -> PublishedList | None:
    """Returns the list of collected profiles; None if there is none, or if its signature or content is not
    valid. Raises StoreError."""
    data = store.read_metadata(PROFILES_FILE)
    if data is None:  # known after one request; the committed revision takes five
        return None
    try:
        signed, ref = load_profiles(data, read_committed(store).proven.targets)
        return PublishedList(signed, ref, collected_profiles.decode(reader(store)(ref)))
    except (TrustError, BadData, NotFound):
        return None


def publish_list(
    store: Store,
    keys: Keys,
    profiles: list[CollectedProfile],
    put: Callable[[bytes], ObjectRef],
    now: datetime,
) -> None:
    """Signs and publishes a list of profiles; the caller has stored the profiles already. `put`: stores the
    list as an object. Raises UsageError if `keys` has no key that may sign profiles, StoreConflict if another
    collector has published a list meanwhile."""
    publisher = read_committed(store).proven.targets
    signer = _signer(publisher, keys)
    ref = put(collected_profiles.encode(profiles))
    before = store.read_metadata(PROFILES_FILE)
    signed = to_targets(ref, _next_version(before, publisher))
    signed.expires = (now + timedelta(days=DAYS)).replace(microsecond=0)
    data = sign_metadata(signed, [signer])
    load_profiles(data, publisher)
    store.sync()
    with store.exclusive():
        store.write_metadata(PROFILES_FILE, data, expected=before)


def _signer(publisher: Targets, keys: Keys) -> CryptoSigner:
    for key in delegated_keys(publisher):
        found = keys.of(key.keyid)
        if found is not None:
            return found
    raise UsageError(
        "no key in --keys may sign profiles of this repository: the publisher makes one with lazyfs repo "
        "delegate STORE --to DIR"
    )


def _next_version(before: bytes | None, publisher: Targets) -> int:
    if before is None:
        return 1
    try:
        return load_profiles(before, publisher)[0].version + 1
    except TrustError:  # of a key that was withdrawn since
        return 1


def objects_of_list(store: ReadableStore) -> Iterator[Digest]:
    """Yields the objects of the published list of profiles: the list itself, the profiles and their hot
    packs. Skips a profile that is missing or damaged, because no image depends on it. Raises StoreError."""
    found = published_list(store)
    if found is None:
        return
    yield found.ref.digest
    for one in found.profiles:
        try:
            plain = reader(store)(one.profile)
            below = [reached.ref.digest for reached in leads_to(profile_at(one.profile), plain)]
        except (NotFound, BadData):
            continue
        yield one.profile.digest
        yield from below
