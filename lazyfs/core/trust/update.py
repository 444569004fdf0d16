"""One attempt to advance the trusted revision: takes the server's files in the order root, timestamp,
snapshot, targets."""

from datetime import datetime
from typing import NamedTuple

from tuf.api.metadata import Snapshot, Targets, Timestamp

from lazyfs.core.digest import ObjectRef
from lazyfs.core.trust import announced_catalogs, signed
from lazyfs.core.trust.errors import Frozen, Malformed, MixedUp, Rollback
from lazyfs.core.trust.revision_target import from_targets
from lazyfs.core.trust.roles import MAX_SNAPSHOT, MAX_TARGETS, MAX_TIMESTAMP, SNAPSHOT, TARGETS, file_name
from lazyfs.core.trust.state import ProvenRevision, TrustState, check_snapshot, check_targets


class WantedFile(NamedTuple):
    """A file of metadata/ that is to be taken next."""

    name: str
    max_bytes: int


class Update:
    """Holds the files that have been verified so far. A call that raises changes nothing.

    `state` may be kept at any time. It has a new root as soon as the root is verified, and the new revision
    as soon as timestamp, snapshot and targets are verified.
    """

    def __init__(self, state: TrustState, now: datetime) -> None:
        self.state = state
        self._now = now
        self._timestamp: tuple[bytes, Timestamp] | None = None
        self._snapshot: tuple[bytes, Snapshot] | None = None

    @property
    def announced(self) -> tuple[ObjectRef, ...]:
        """The catalogs that the timestamp announces: a hint, of the timestamp's signer alone. Empty unless
        the timestamp leads to a revision that is not trusted yet."""
        if self._timestamp is None:
            return ()
        return announced_catalogs.from_fields(self._timestamp[1].unrecognized_fields)

    def root(self, data: bytes) -> None:
        """Takes the next root. Must be called before `timestamp`, which checks against the newest root's
        keys."""
        assert self._timestamp is None
        self.state = self.state.add_root(data)

    def timestamp(self, data: bytes) -> WantedFile | None:
        """Takes the timestamp; returns the snapshot file that it names, for the next call, or None if the
        trusted revision is the newest.

        Raises Expired, Frozen, Rollback, MixedUp, and as `signed.load`.
        """
        signed.check_fresh(self.state.root, self._now)
        new = signed.load(Timestamp, data, self.state.root, MAX_TIMESTAMP)
        floor = self.state.floor
        if floor:
            _check_timestamp_floor(floor, data, new)
            if data == floor.timestamp_bytes and new.is_expired(self._now):
                raise Frozen(
                    f"the server still gives timestamp version {new.version}, which expired on "
                    f"{signed.when(new.expires)}: the publisher must run `lazyfs repo resign`, or somebody "
                    "keeps newer revisions from this machine"
                )
        signed.check_fresh(new, self._now)
        meta = new.snapshot_meta
        proven = self.state.proven
        if proven and proven.root is self.state.root:
            if data == proven.timestamp_bytes:
                return None
            if meta.version == proven.snapshot.version:
                check_snapshot(new, proven.snapshot_bytes, proven.snapshot)
                signed.check_fresh(proven.snapshot, self._now)
                signed.check_fresh(proven.targets, self._now)
                self.state = self.state.prove(
                    ProvenRevision(data, proven.snapshot_bytes, proven.targets_bytes, self.state.root)
                )
                return None
        self._timestamp = data, new
        return WantedFile(file_name(SNAPSHOT, meta.version), _limit(meta.length, MAX_SNAPSHOT))

    def snapshot(self, data: bytes) -> WantedFile:
        """Takes the snapshot file; returns the targets file that it names, for the next call. Raises as
        `timestamp`."""
        assert self._timestamp is not None
        _, timestamp = self._timestamp
        limit = _limit(timestamp.snapshot_meta.length, MAX_SNAPSHOT)
        new = signed.load(Snapshot, data, self.state.root, limit)
        check_snapshot(timestamp, data, new)
        signed.check_fresh(new, self._now)
        if floor := self.state.floor:
            _check_snapshot_floor(floor.snapshot, new)
        meta = new.meta.get("targets.json")
        if meta is None:
            raise MixedUp(f"snapshot version {new.version} does not name targets.json")
        self._snapshot = data, new
        return WantedFile(file_name(TARGETS, meta.version), _limit(meta.length, MAX_TARGETS))

    def targets(self, data: bytes) -> TrustState:
        """Takes the targets; returns the state that trusts the new revision.

        Raises as `timestamp`, and UnsupportedFormat for a revision that this version cannot read.
        """
        assert self._timestamp is not None
        assert self._snapshot is not None
        snapshot_bytes, snapshot = self._snapshot
        limit = _limit(snapshot.meta["targets.json"].length, MAX_TARGETS)
        new = signed.load(Targets, data, self.state.root, limit)
        check_targets(snapshot, data, new)
        signed.check_fresh(new, self._now)
        revision = from_targets(new)
        proven, floor = self.state.proven, self.state.floor
        if proven and revision.name != proven.revision.name:
            raise MixedUp(f"repository {revision.name!r} came where {proven.revision.name!r} is trusted")
        if floor:
            if revision.number < floor.revision.number:
                raise Rollback(
                    f"revision {revision.number} came after revision {floor.revision.number} was trusted"
                )
            if revision.number == floor.revision.number and revision.root != floor.revision.root:
                raise MixedUp(f"revision {revision.number} names two different root catalogs")
        self.state = self.state.prove(
            ProvenRevision(self._timestamp[0], snapshot_bytes, data, self.state.root)
        )
        return self.state


def _limit(length: int | None, default: int) -> int:
    return default if length is None else min(length, default)


def _check_timestamp_floor(floor: ProvenRevision, data: bytes, new: Timestamp) -> None:
    old = floor.timestamp
    if new.version < old.version:
        raise Rollback(
            f"timestamp version {new.version} came after version {old.version} was trusted: a proxy or "
            "replica lags behind, or somebody replays old metadata"
        )
    if new.version == old.version and data != floor.timestamp_bytes and new != old:
        raise MixedUp(f"timestamp version {new.version} has two contents")
    if new.snapshot_meta.version < old.snapshot_meta.version:
        raise Rollback(
            f"timestamp version {new.version} names snapshot version {new.snapshot_meta.version} after "
            f"version {old.snapshot_meta.version} was trusted"
        )


def _check_snapshot_floor(old: Snapshot, new: Snapshot) -> None:
    for name, meta in old.meta.items():
        found = new.meta.get(name)
        if found is None:
            raise Malformed(f"snapshot version {new.version} no longer names {name}")
        if found.version < meta.version:
            raise Rollback(
                f"snapshot version {new.version} names {name} version {found.version} after version "
                f"{meta.version} was trusted"
            )
