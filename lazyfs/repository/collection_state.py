"""The state that publishers and collectors of one store share: one small file, changed conditionally.

It names the leases of the publishers under way, the collector under way, and the list of objects that are
condemned or being deleted. It is no signed file and clients do not read it: anybody who can write to the
store could delete its objects anyway. It names no host, user or image, because a web server may hand it out.
"""

import secrets
import time
from collections.abc import Callable

import msgspec

from lazyfs.core.errors import FormatError, UsageError
from lazyfs.store import Store, StoreConflict

FILE = "collection.json"
MOST_LEASES = 4096
APART = 300.0
"""The largest difference in seconds between the clocks of machine and store with which a publisher may
work."""
RETRIES = 30
"""The largest number of attempts at a conditional write. An attempt fails only if another process has changed
the state meanwhile."""


class Lease(msgspec.Struct, frozen=True):
    """States that a process is under way. All times are on the store's clock."""

    token: str
    since: float
    until: float
    """The time at which the lease expires, unless it is renewed before."""
    revision: int = 0
    """For a publisher: number of the newest revision when the lease began. The publisher starts from this
    revision or from a newer one."""


class ObjectList(msgspec.Struct, frozen=True):
    """The objects that a collection is about to delete."""

    collection: str
    """A random name of the collection. The name stays the same when the list of deletions replaces the
    condemned list."""
    name: str
    """Name of the file under metadata/ that lists the objects."""
    digest: str
    """SHA-256, in hex, of the file with the list."""
    objects: int
    waits_for: tuple[str, ...]
    """Tokens of the leases that began before the list was known. Nothing is deleted until these leases are
    over."""
    deleting: bool = False
    """False while the objects are only condemned: none is deleted yet, and a publisher that needs one takes
    the list back. True once some may be deleted."""


class CollectionState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The state: the content of metadata/collection.json."""

    leases: tuple[Lease, ...] = ()
    collector: Lease | None = None
    listed: ObjectList | None = None

    def lease(self, token: str) -> Lease | None:
        """Returns the lease of this token, None if there is none."""
        return next((lease for lease in self.leases if lease.token == token), None)

    def lists(self, listed: ObjectList) -> bool:
        """Returns True if the collection of this list is still going on, with this list or a shorter one."""
        return self.listed is not None and self.listed.collection == listed.collection

    def with_lease(self, lease: Lease) -> "CollectionState":
        """Returns the state with this lease added; it replaces an older lease of the same token."""
        others = self.without_lease(lease.token).leases
        return msgspec.structs.replace(self, leases=(*others, lease))

    def without_lease(self, token: str) -> "CollectionState":
        """Returns the state without the lease of this token."""
        return msgspec.structs.replace(
            self, leases=tuple(lease for lease in self.leases if lease.token != token)
        )


EMPTY = msgspec.json.encode(CollectionState())
"""The content of metadata/collection.json in a new store."""

_decoder = msgspec.json.Decoder(CollectionState)


def read_state(store: Store) -> CollectionState:
    """Returns the state. Raises FormatError for a damaged file."""
    return _decode(store.read_metadata(FILE))


def change_state(
    store: Store,
    change: Callable[[CollectionState], CollectionState],
    pause: Callable[[float], object] = time.sleep,
) -> CollectionState:
    """Replaces the state by the result of `change` and returns the new state. Calls `change` again, on the
    newer state, if another process has changed the state meanwhile. Raises StoreConflict if that happens too
    often, FormatError, StoreError, and the exceptions of `change`."""
    for attempt in range(RETRIES):
        with store.exclusive():
            encoded = store.read_metadata(FILE)
            before = _decode(encoded)
            after = change(before)
            if after == before:
                return after
            try:
                store.write_metadata(FILE, msgspec.json.encode(after), expected=encoded)
                return after
            except StoreConflict:
                if attempt == RETRIES - 1:
                    raise
        pause(secrets.randbelow(20) * (attempt + 1) / 1000)
    raise AssertionError("unreachable")


def check_clock(store: Store, machine: float) -> float:
    """Returns the store's time. Raises UsageError if it differs from `machine`, this machine's time, by more
    than APART seconds: one of the clocks is wrong, and revisions would be kept too long or not long
    enough."""
    now = store.now()
    if abs(machine - now) > APART:
        raise UsageError(
            f"this machine's clock is {abs(machine - now):.0f} s {'ahead of' if machine > now else 'behind'} "
            "the store's: set both right (NTP), then run this again"
        )
    return now


def _decode(encoded: bytes | None) -> CollectionState:
    if encoded is None:
        return CollectionState()
    try:
        state = _decoder.decode(encoded)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise FormatError(
            f"metadata/{FILE} of the store is damaged ({error}): when no publish and no collection is under "
            "way, delete it"
        ) from None
    if len(state.leases) > MOST_LEASES:
        raise FormatError(f"metadata/{FILE} of the store has more than {MOST_LEASES} leases: delete it")
    return state
