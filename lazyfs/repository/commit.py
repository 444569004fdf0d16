"""The signed revision as publishers see it: read the committed one, commit the next one.

Write order of a commit: N.targets.json, N.snapshot.json, then timestamp.json, last and in one step. Before
that step no client can see the new revision; after it every client sees all of it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import TrustError, UsageError
from lazyfs.core.params import Revision
from lazyfs.core.trust.revision_fields import TARGET
from lazyfs.core.trust.revision_target import to_target
from lazyfs.core.trust.roles import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, file_name
from lazyfs.core.trust.state import ProvenRevision, TrustState, bootstrap
from lazyfs.repository.keys import Keys
from lazyfs.store import Store, StoreConflict

TIMESTAMP_DAYS = 7
"""Days that clients advance without a renewed timestamp, and so the longest time that an attacker between
them and the origin can hide new revisions. `lazyfs repo resign` renews it, once a day, from cron or CI."""

PUBLISHER_DAYS = 365
"""Days until targets and snapshot expire. Every publish renews them, and resign does once half has passed."""

_S = TypeVar("_S", Root, Snapshot, Targets, Timestamp)


@dataclass(frozen=True)
class CommittedRevision:
    """The committed revision of a store with its proof: all the store's roots, and the signed files."""

    state: TrustState
    proven: ProvenRevision

    @property
    def revision(self) -> Revision:
        return self.proven.revision


def read_committed(store: Store) -> CommittedRevision:
    """Returns the committed revision, verified against the store's own roots; expiry does not count.

    Raises UsageError for a store that was never initialised, TrustError for one that is damaged.
    """
    first = store.read_metadata(file_name(ROOT, 1))
    stamp = store.read_metadata(file_name(TIMESTAMP, 0))
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
        # A rotation killed after its root was written: the revision is still signed by the keys before.
        if len(roots) == 1:
            raise
        return CommittedRevision(state, _proven(store, stamp, roots[-2]))


def _proven(store: Store, stamp: bytes, root: Root) -> ProvenRevision:
    proven = ProvenRevision(stamp, b"", b"", root)
    snapshot = _named(store, SNAPSHOT, proven.timestamp.snapshot_meta.version)
    proven = ProvenRevision(stamp, snapshot, b"", root)
    targets = _named(store, TARGETS, proven.snapshot.meta["targets.json"].version)
    return ProvenRevision(stamp, snapshot, targets, root).check()


def read_revision(store: Store) -> Revision:
    """Returns the committed revision. Raises as `read_committed`."""
    return read_committed(store).revision


def commit_revision(
    store: Store,
    keys: Keys,
    root: ObjectRef,
    *,
    expected_revision: int,
    now: datetime,
    timestamp_days: float = TIMESTAMP_DAYS,
) -> Revision:
    """Makes `root` the next revision, after everything put into the store is on stable storage.

    Raises StoreConflict if the committed revision is no longer `expected_revision` or another publisher holds
    the store (nothing was changed), UsageError if a key is missing or the root catalog is not in the store.
    """
    store.sync()
    with store.exclusive():
        committed = read_committed(store)
        old = committed.revision
        if old.number != expected_revision:
            raise StoreConflict(
                f"revision {old.number} of {old.name} was committed while this publish started from "
                f"revision {expected_revision}: nothing was changed, publish again"
            )
        if not store.has(root.digest):
            raise UsageError(
                f"root catalog {root.digest.hex()} is not in the store: put it before the commit"
            )
        revision = Revision(old.name, old.number + 1, int(now.timestamp()), root, old.params)
        write_revision(store, keys, committed.state.root, revision, committed.proven, now, timestamp_days)
        return revision


def write_revision(
    store: Store,
    keys: Keys,
    root: Root,
    revision: Revision,
    before: ProvenRevision | None,
    now: datetime,
    timestamp_days: float = TIMESTAMP_DAYS,
) -> None:
    """Signs targets, snapshot and timestamp for `revision` and writes them in this order.

    Targets and snapshot share their version number, so that clients can ask for both at once. A version
    number for which a killed publisher left files is never used again, because a proxy may remember those
    files.
    """
    signers = {role: keys.require(root, role, "--keys") for role in (TARGETS, SNAPSHOT, TIMESTAMP)}
    version = before.snapshot.version + 1 if before else 1
    while any(store.read_metadata(file_name(role, version)) is not None for role in (TARGETS, SNAPSHOT)):
        version += 1
    expires = _in_days(now, PUBLISHER_DAYS)
    targets = sign_metadata(
        Targets(version, expires=expires, targets={TARGET: to_target(revision)}), signers[TARGETS]
    )
    meta = {"targets.json": MetaFile.from_data(version, targets, ["sha256"])}
    snapshot = sign_metadata(Snapshot(version, expires=expires, meta=meta), signers[SNAPSHOT])
    store.write_metadata(file_name(TARGETS, version), targets, expected=None)
    store.write_metadata(file_name(SNAPSHOT, version), snapshot, expected=None)
    write_timestamp(store, signers[TIMESTAMP], version, snapshot, before, now, timestamp_days)


def write_timestamp(
    store: Store,
    signers: list[CryptoSigner],
    version: int,
    snapshot: bytes,
    before: ProvenRevision | None,
    now: datetime,
    days: float,
) -> datetime:
    """Signs and writes the timestamp that names this snapshot; returns the moment it expires."""
    expires = _in_days(now, days)
    own = before.timestamp.version + 1 if before else 1
    meta = MetaFile.from_data(version, snapshot, ["sha256"])
    stamp = sign_metadata(Timestamp(own, expires=expires, snapshot_meta=meta), signers)
    replaced = before.timestamp_bytes if before else None
    store.write_metadata(file_name(TIMESTAMP, own), stamp, expected=replaced)
    return expires


def sign_metadata(signed: _S, signers: list[CryptoSigner]) -> bytes:
    """Returns the signed file: compact JSON with one signature per signer."""
    metadata: Metadata[_S] = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes(JSONSerializer(compact=True))


def _in_days(now: datetime, days: float) -> datetime:
    return (now + timedelta(days=days)).replace(microsecond=0)


def _named(store: Store, role: str, version: int) -> bytes:
    data = store.read_metadata(file_name(role, version))
    if data is None:
        raise TrustError(f"store lacks metadata/{file_name(role, version)}, which its timestamp leads to")
    return data
