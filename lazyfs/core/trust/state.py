"""A client's trust: a chain of roots, and the last revision that was proven under one of them."""

from collections.abc import Mapping
from functools import cached_property

import msgspec
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from lazyfs.core.digest import Digest, sha256
from lazyfs.core.params import Revision
from lazyfs.core.trust import signed
from lazyfs.core.trust.errors import MixedUp, WrongRoot, WrongVersion
from lazyfs.core.trust.revision_target import from_targets
from lazyfs.core.trust.roles import (
    MAX_CHAIN,
    MAX_SNAPSHOT,
    MAX_TARGETS,
    MAX_TIMESTAMP,
    SNAPSHOT,
    TIMESTAMP,
)
from lazyfs.core.trust.saved import Saved, SavedRevision, decode


class ProvenRevision(msgspec.Struct, frozen=True, dict=True):
    """One proven revision: its signed files timestamp, snapshot and targets, and the root that proved
    them."""

    timestamp_bytes: bytes
    snapshot_bytes: bytes
    targets_bytes: bytes
    root: Root

    @cached_property
    def timestamp(self) -> Timestamp:
        return signed.load(Timestamp, self.timestamp_bytes, self.root, MAX_TIMESTAMP)

    @cached_property
    def snapshot(self) -> Snapshot:
        return signed.load(Snapshot, self.snapshot_bytes, self.root, MAX_SNAPSHOT)

    @cached_property
    def targets(self) -> Targets:
        return signed.load(Targets, self.targets_bytes, self.root, MAX_TARGETS)

    @cached_property
    def revision(self) -> Revision:
        return from_targets(self.targets)

    def check(self) -> "ProvenRevision":
        """Returns the revision unchanged if signatures, versions and hashes hold. Expiry is not checked: a
        proven revision may be served for ever. Raises TrustError or UnsupportedFormat."""
        check_snapshot(self.timestamp, self.snapshot_bytes, self.snapshot)
        check_targets(self.snapshot, self.targets_bytes, self.targets)
        self.revision  # noqa: B018
        return self


class TrustState(msgspec.Struct, frozen=True):
    """The roots, from the one that the operator gave to the newest one seen; and the last trusted revision,
    if there is one."""

    root_bytes: tuple[bytes, ...]
    root: Root
    """The newest root."""
    proven: ProvenRevision | None = None
    earlier: ProvenRevision | None = None
    """The revision that mounts showed before `proven`; None once a mount has shown `proven`. The objects of
    `proven` may be missing or damaged at the origin, and a mount then begins with this revision. No newer
    metadata are judged by it: that is what `floor` is for."""

    @property
    def last_shown(self) -> ProvenRevision | None:
        """The revision that a mount begins with."""
        return self.proven if self.earlier is None else self.earlier

    def prove(self, proven: ProvenRevision) -> "TrustState":
        """Returns the state that trusts this revision. If it is another one than before, the one before is
        kept as `earlier`, unless an earlier one is kept already: that one was shown."""
        before, earlier = self.proven, self.earlier
        if before is not None and earlier is None and not _is_same(before.revision, proven.revision):
            earlier = before
        return TrustState(self.root_bytes, self.root, proven, earlier)

    def note_shown(self, revision: Revision) -> "TrustState":
        """Returns the state once a mount shows this revision: if it is `proven`, no earlier one is kept."""
        if self.earlier is None or self.proven is None or not _is_same(self.proven.revision, revision):
            return self
        return TrustState(self.root_bytes, self.root, self.proven)

    def add_root(self, data: bytes) -> "TrustState":
        """Returns the state with the next root added. Raises WrongVersion for a root with another number,
        WrongRoot if the chain is too long to keep, and as `load_root`."""
        if sum(map(len, self.root_bytes)) + len(data) > MAX_CHAIN:
            raise WrongRoot(
                f"the roots from version {self.root.version - len(self.root_bytes) + 1} on take more than "
                f"{MAX_CHAIN} bytes: give a newer root with --trust, if the publisher vouches for it"
            )
        root = signed.load_root(data, self.root)
        if root.version != self.root.version + 1:
            raise WrongVersion(
                f"root version {root.version} came where version {self.root.version + 1} was asked for"
            )
        return TrustState((*self.root_bytes, data), root, self.proven, self.earlier)

    @property
    def floor(self) -> ProvenRevision | None:
        """The revision that no new metadata may be older than.

        None after the keys of the roles timestamp or snapshot were changed: a thief of the old keys may have
        signed version 2**60 (fast-forward attack, specification 5.3.11).
        """
        if self.proven and any(
            self.proven.root.roles[role].keyids != self.root.roles[role].keyids
            for role in (TIMESTAMP, SNAPSHOT)
        ):
            return None
        return self.proven


def bootstrap(root: bytes, fingerprint: Digest | None = None) -> TrustState:
    """Returns a state that trusts this root. With a `fingerprint` (SHA-256) the root must have it.

    Raises WrongRoot for another fingerprint, and as `load_root`.
    """
    if fingerprint is not None and sha256(root) != fingerprint:
        raise WrongRoot(
            f"the server's first root has the fingerprint {sha256(root).hex()}, not {fingerprint.hex()} as "
            "given: this is another repository, or somebody stands between; `lazyfs repo show STORE` on the "
            "server prints the right one"
        )
    return TrustState((root,), signed.load_root(root, None))


def check_snapshot(timestamp: Timestamp, data: bytes, snapshot: Snapshot) -> None:
    """Raises MixedUp or WrongVersion unless this is the snapshot file that the timestamp names."""
    meta = timestamp.snapshot_meta
    signed.check_named(f"snapshot version {snapshot.version}", data, meta.length, meta.hashes)
    if snapshot.version != meta.version:
        raise WrongVersion(
            f"timestamp names snapshot version {meta.version}, version {snapshot.version} came"
        )


def check_targets(snapshot: Snapshot, data: bytes, targets: Targets) -> None:
    """Raises MixedUp or WrongVersion unless this is the targets file that the snapshot file names."""
    meta = snapshot.meta.get("targets.json")
    if meta is None:
        raise MixedUp(f"snapshot version {snapshot.version} does not name targets.json")
    signed.check_named(f"targets version {targets.version}", data, meta.length, meta.hashes)
    if targets.version != meta.version:
        raise WrongVersion(f"snapshot names targets version {meta.version}, version {targets.version} came")


def save(state: TrustState) -> bytes:
    """Encodes the state as one file, so that one rename replaces all of it."""
    newest = SavedRevision() if state.proven is None else _to_save(state.proven)
    saved = Saved(
        **msgspec.structs.asdict(newest),
        roots=[data.decode() for data in state.root_bytes],
        earlier=None if state.earlier is None else _to_save(state.earlier),
    )
    return msgspec.json.encode(saved)


def restore(data: bytes, anchor: TrustState | Digest | None) -> TrustState:
    """Decodes a saved state and checks every signature, version and hash again. Uses neither clock nor
    network.

    `anchor`: the operator's root, or the fingerprint of a root; None trusts the saved root. Raises WrongRoot
    if the saved chain of roots does not contain the anchor, and other TrustErrors if a check fails.
    """
    saved = decode(data)
    texts = [text.encode() for text in saved.roots]
    start = saved.start(anchor.root_bytes[0] if isinstance(anchor, TrustState) else anchor)
    if start is None:
        raise WrongRoot("saved trust does not start from the root that was given")
    state = bootstrap(texts[start])
    provers = {state.root.version: state.root}
    for text in texts[start + 1 :]:
        state = state.add_root(text)
        provers[state.root.version] = state.root
    if not saved.root_version:
        return state
    if saved.root_version not in provers:
        raise WrongRoot(f"saved trust was proven by root version {saved.root_version}, which is not in it")
    earlier = saved.earlier
    if earlier is not None and earlier.root_version not in provers:
        earlier = None  # an anchor that is newer than its root
    return TrustState(
        state.root_bytes,
        state.root,
        _from_saved(saved, provers),
        None if earlier is None else _from_saved(earlier, provers),
    )


def _is_same(one: Revision, other: Revision) -> bool:
    return (one.number, one.root) == (other.number, other.root)


def _to_save(proven: ProvenRevision) -> SavedRevision:
    return SavedRevision(
        root_version=proven.root.version,
        timestamp=proven.timestamp_bytes.decode(),
        snapshot=proven.snapshot_bytes.decode(),
        targets=proven.targets_bytes.decode(),
    )


def _from_saved(saved: SavedRevision, provers: Mapping[int, Root]) -> ProvenRevision:
    """Returns the revision, checked. `provers`: the roots by version."""
    timestamp, snapshot, targets = saved.timestamp.encode(), saved.snapshot.encode(), saved.targets.encode()
    return ProvenRevision(timestamp, snapshot, targets, provers[saved.root_version]).check()
