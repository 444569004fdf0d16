"""The signed revision as publishers see it: read the committed one, commit the next one.

Write order of a commit: N.targets.json, N.snapshot.json, then timestamp.json, last and in one step. Before
that step no client can see the new revision; after it every client sees all of it.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Delegations, Metadata, MetaFile, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import UsageError
from lazyfs.core.history.records import Change, entry
from lazyfs.core.params import Params, Revision
from lazyfs.core.trust import announced_catalogs
from lazyfs.core.trust.revision_fields import TARGET
from lazyfs.core.trust.revision_target import to_target
from lazyfs.core.trust.roles import SNAPSHOT, TARGETS, TIMESTAMP, file_name
from lazyfs.core.trust.state import ProvenRevision
from lazyfs.repository.committed import CommittedRevision as CommittedRevision
from lazyfs.repository.committed import read_committed as read_committed
from lazyfs.repository.committed import read_revision as read_revision
from lazyfs.repository.keys import Keys
from lazyfs.repository.leases import PublisherLease
from lazyfs.repository.stored_history import emitter, read_history, write_history
from lazyfs.store import Store, StoreConflict

TIMESTAMP_DAYS = 7
"""Days until the timestamp expires. An attacker between clients and the origin can hide new revisions for
this long at most. `lazyfs repo resign` renews the timestamp; run it once a day, from cron or CI."""

PUBLISHER_DAYS = 365
"""Days until the targets file and the snapshot file expire. Every publish renews them; so does `lazyfs repo
resign` once half of the days have passed."""

RETRIES = 5
"""The largest number of attempts at a commit. An attempt fails if another process commits first, even if that
only renews the expiry or names a revision."""

_S = TypeVar("_S", Root, Snapshot, Targets, Timestamp)


def commit_revision(
    store: Store,
    keys: Keys,
    root: ObjectRef,
    *,
    expected_revision: int,
    now: datetime,
    timestamp_days: float = TIMESTAMP_DAYS,
    changes: Sequence[Change] = (),
    restored: int = 0,
    first_catalogs: tuple[ObjectRef, ...] = (),
    lease: PublisherLease | None = None,
    params: Params | None = None,
    known: CommittedRevision | None = None,
) -> Revision:
    """Commits the root catalog `root` as the next revision, after everything put into the store is on stable
    storage.

    `changes`, `restored`: fields of the new revision's entry in the history. `first_catalogs`: as in
    Revision. `lease`: the lease of the
    publisher who put the objects. `params`: new format parameters; by default those of the revision before.
    `known`: as for `read_committed`.

    Raises StoreConflict if the committed revision is no longer `expected_revision`, or if another publisher
    holds the store (nothing was changed). Raises LeaseLost, and UsageError if a key is missing or the root
    catalog is not in the store.
    """

    def next_revision(old: Revision) -> Revision:
        if old.number != expected_revision:
            raise _overtaken(old, expected_revision)
        time = max(int(now.timestamp()), old.time)
        version = (params or old.params).version
        emit = emitter(store, lease)
        past = entry(old.number + 1, time, version, root, list(changes), old.history, emit, restored=restored)
        history = write_history(store, read_history(store, old).append(past, emit), lease)
        if not store.has(root.digest):
            raise UsageError(
                f"root catalog {root.digest.hex()} is not in the store: put it before the commit"
            )
        number, kept = old.number + 1, params or old.params
        return Revision(old.name, number, time, root, kept, history, first_catalogs)

    return replace_revision(
        store, keys, next_revision, now=now, timestamp_days=timestamp_days, lease=lease, known=known
    )


def replace_revision(
    store: Store,
    keys: Keys,
    change: Callable[[Revision], Revision],
    *,
    now: datetime,
    timestamp_days: float = TIMESTAMP_DAYS,
    lease: PublisherLease | None = None,
    known: CommittedRevision | None = None,
) -> Revision:
    """Passes the committed revision to `change`; signs, commits and returns the result. Calls `change` again
    if another publisher commits first. `known`: as for `read_committed`. Raises the exceptions of `change`,
    and as `commit_revision`."""
    for _ in range(RETRIES):
        committed = known = read_committed(store, known)
        revision = change(committed.revision)
        store.sync()
        with store.exclusive():
            if store.read_metadata(file_name(TIMESTAMP, 0)) != committed.proven.timestamp_bytes:
                continue
            if lease:
                lease.check()
            try:
                write_revision(
                    store, keys, committed.state.root, revision, committed.proven, now, timestamp_days
                )
                return revision
            except StoreConflict:  # where `exclusive` keeps nobody out
                continue
    raise StoreConflict(f"other publishers were faster {RETRIES} times: nothing was changed, publish again")


def _overtaken(found: Revision, expected: int) -> StoreConflict:
    return StoreConflict(
        f"revision {found.number} of {found.name} was committed while this publish started from "
        f"revision {expected}: nothing was changed, publish again"
    )


def write_revision(
    store: Store,
    keys: Keys,
    root: Root,
    revision: Revision,
    before: ProvenRevision | None,
    now: datetime,
    timestamp_days: float = TIMESTAMP_DAYS,
    *,
    delegations: Delegations | None = None,
) -> None:
    """Signs the files targets, snapshot and timestamp for `revision`, and writes them in this order.

    `delegations`: new delegations; by default those of the revision before stay.

    Targets and snapshot share their version number, so that clients can ask for both at once. A version
    number for which a killed publisher left files is never used again, because a proxy may remember those
    files.
    """
    signers = {role: keys.require(root, role, "--keys") for role in (TARGETS, SNAPSHOT, TIMESTAMP)}
    version = before.snapshot.version + 1 if before else 1
    while any(store.read_metadata(file_name(role, version)) is not None for role in (TARGETS, SNAPSHOT)):
        version += 1
    expires = _in_days(now, PUBLISHER_DAYS)
    if delegations is None and before is not None:
        delegations = before.targets.delegations
    targets = sign_metadata(
        Targets(version, expires=expires, targets={TARGET: to_target(revision)}, delegations=delegations),
        signers[TARGETS],
    )
    meta = {"targets.json": MetaFile.from_data(version, targets, ["sha256"])}
    snapshot = sign_metadata(Snapshot(version, expires=expires, meta=meta), signers[SNAPSHOT])
    store.write_metadata(file_name(TARGETS, version), targets, expected=None)
    store.write_metadata(file_name(SNAPSHOT, version), snapshot, expected=None)
    write_timestamp(store, signers[TIMESTAMP], version, snapshot, revision, before, now, timestamp_days)


def write_timestamp(
    store: Store,
    signers: list[CryptoSigner],
    version: int,
    snapshot: bytes,
    revision: Revision,
    before: ProvenRevision | None,
    now: datetime,
    days: float,
) -> datetime:
    """Signs and writes the timestamp that names the snapshot file `snapshot`; returns the time at which the
    timestamp expires. `version`: that of the snapshot file. `revision`: the revision that it leads to, whose
    catalogs the timestamp announces. `before`: the revision whose timestamp is replaced."""
    expires = _in_days(now, days)
    own = before.timestamp.version + 1 if before else 1
    meta = MetaFile.from_data(version, snapshot, ["sha256"])
    fields = announced_catalogs.to_fields(revision)
    timestamp = Timestamp(own, expires=expires, snapshot_meta=meta, unrecognized_fields=fields)
    stamp = sign_metadata(timestamp, signers)
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
