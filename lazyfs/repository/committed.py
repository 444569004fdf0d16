"""The committed revision of a store, with its proof."""

from contextlib import suppress
from dataclasses import dataclass

from tuf.api.metadata import Root

from lazyfs.core.errors import TrustError, UsageError
from lazyfs.core.params import Revision
from lazyfs.core.trust.roles import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, file_name
from lazyfs.core.trust.state import ProvenRevision, TrustState, bootstrap
from lazyfs.store import ReadableStore


@dataclass(frozen=True)
class CommittedRevision:
    """The committed revision of a store with its proof: all the store's roots, and the signed files."""

    state: TrustState
    proven: ProvenRevision

    @property
    def revision(self) -> Revision:
        return self.proven.revision


def read_committed(store: ReadableStore, known: CommittedRevision | None = None) -> CommittedRevision:
    """Returns the committed revision, verified against the store's own roots; expiry does not count.

    `known`: the result of an earlier call. It is returned again if the timestamp is still the same, byte for
    byte, and there is no newer root; this takes two requests instead of five. A revision's other signed files
    never change.

    Raises UsageError for a store that was never initialised, TrustError for one that is damaged.
    """
    stamp = store.read_metadata(file_name(TIMESTAMP, 0))
    if (
        known is not None
        and stamp == known.proven.timestamp_bytes
        and store.read_metadata(file_name(ROOT, known.state.root.version + 1)) is None
    ):
        return known
    first = store.read_metadata(file_name(ROOT, 1))
    if first is None or stamp is None:
        raise UsageError(
            "the store has no repository in it: run `lazyfs repo init STORE --name NAME`"
            if first is None
            else "the store holds an unfinished `repo init` (no timestamp.json): delete it and run init again"
        )
    state = bootstrap(first)
    roots = [state.root]
    while (data := store.read_metadata(file_name(ROOT, state.root.version + 1))) is not None:
        state = state.add_root(data)
        roots.append(state.root)
    try:
        return CommittedRevision(state, _proven(store, stamp, state.root))
    except TrustError:
        # If a rotation was killed after its root was written, the revision is still signed by earlier keys.
        for earlier in roots[-2::-1]:
            if _needs_present_keys(earlier, state.root):
                with suppress(TrustError):
                    return CommittedRevision(state, _proven(store, stamp, earlier))
        raise


def _needs_present_keys(earlier: Root, newest: Root) -> bool:
    """Returns True if nobody who holds only keys that `newest` has replaced can sign a revision for
    `earlier`. Thieves may hold such keys and write the store, and publishers sign anew what `read_committed`
    returns."""
    stays = {role for role in (TARGETS, SNAPSHOT, TIMESTAMP) if earlier.roles[role] == newest.roles[role]}
    return TIMESTAMP in stays or {TARGETS, SNAPSHOT} <= stays


def _proven(store: ReadableStore, stamp: bytes, root: Root) -> ProvenRevision:
    proven = ProvenRevision(stamp, b"", b"", root)
    snapshot = _named(store, SNAPSHOT, proven.timestamp.snapshot_meta.version)
    proven = ProvenRevision(stamp, snapshot, b"", root)
    targets = _named(store, TARGETS, proven.snapshot.meta["targets.json"].version)
    return ProvenRevision(stamp, snapshot, targets, root).check()


def read_revision(store: ReadableStore) -> Revision:
    """Returns the committed revision. Raises as `read_committed`."""
    return read_committed(store).revision


def _named(store: ReadableStore, role: str, version: int) -> bytes:
    data = store.read_metadata(file_name(role, version))
    if data is None:
        raise TrustError(f"store lacks metadata/{file_name(role, version)}, which its timestamp leads to")
    return data
