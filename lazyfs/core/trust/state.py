"""What a client trusts: a chain of roots, and the last revision that was proven under one of them."""

from dataclasses import dataclass
from functools import cached_property

import msgspec
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from lazyfs.core.digest import Digest, sha256
from lazyfs.core.params import Revision
from lazyfs.core.trust import signed
from lazyfs.core.trust.errors import Malformed, MixedUp, WrongRoot, WrongVersion
from lazyfs.core.trust.revision_target import from_targets
from lazyfs.core.trust.roles import MAX_ROOT, MAX_SNAPSHOT, MAX_TARGETS, MAX_TIMESTAMP, SNAPSHOT, TIMESTAMP


@dataclass(frozen=True)
class ProvenRevision:
    """One proven revision: the three files, and the root that proved them."""

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
        """The same, if signatures, versions and hashes hold. Expiry does not count: what was proven once may
        be served for ever. Raises a TrustError or UnsupportedFormat."""
        check_snapshot(self.timestamp, self.snapshot_bytes, self.snapshot)
        check_targets(self.snapshot, self.targets_bytes, self.targets)
        self.revision  # noqa: B018
        return self


@dataclass(frozen=True)
class TrustState:
    """Roots from the one given to the newest seen, and the last trusted revision if there is one."""

    root_bytes: tuple[bytes, ...]
    root: Root
    """The newest."""
    proven: ProvenRevision | None = None

    def add_root(self, data: bytes) -> "TrustState":
        """The state with the next root. Raises WrongVersion unless it is the next, or as `load_root`."""
        root = signed.load_root(data, self.root, MAX_ROOT)
        if root.version != self.root.version + 1:
            raise WrongVersion(
                f"root version {root.version} came where version {self.root.version + 1} was asked for"
            )
        return TrustState((*self.root_bytes, data), root, self.proven)

    @property
    def floor(self) -> ProvenRevision | None:
        """What no new metadata may be older than.

        None after the timestamp's or the snapshot's keys were changed: whoever stole the old ones may have
        signed version 2**60 (fast-forward attack, specification 5.3.11).
        """
        if self.proven and any(
            self.proven.root.roles[role].keyids != self.root.roles[role].keyids
            for role in (TIMESTAMP, SNAPSHOT)
        ):
            return None
        return self.proven


def bootstrap(root: bytes, fingerprint: Digest | None = None) -> TrustState:
    """A state that trusts this root: given as a file, or fetched and compared with its fingerprint (SHA-256).

    Raises WrongRoot if the fingerprint is another's, or what `load_root` raises.
    """
    if fingerprint is not None and sha256(root) != fingerprint:
        raise WrongRoot(
            f"the server's first root has the fingerprint {sha256(root).hex()}, not {fingerprint.hex()} as "
            "given: this is another repository, or somebody stands between"
        )
    return TrustState((root,), signed.load_root(root, None, MAX_ROOT))


def check_snapshot(timestamp: Timestamp, data: bytes, snapshot: Snapshot) -> None:
    """Raises MixedUp or WrongVersion unless this is the snapshot that the timestamp names."""
    meta = timestamp.snapshot_meta
    signed.check_named(f"snapshot version {snapshot.version}", data, meta.length, meta.hashes)
    if snapshot.version != meta.version:
        raise WrongVersion(
            f"timestamp names snapshot version {meta.version}, version {snapshot.version} came"
        )


def check_targets(snapshot: Snapshot, data: bytes, targets: Targets) -> None:
    """Raises MixedUp or WrongVersion unless these are the targets that the snapshot names."""
    meta = snapshot.meta.get("targets.json")
    if meta is None:
        raise MixedUp(f"snapshot version {snapshot.version} does not name targets.json")
    signed.check_named(f"targets version {targets.version}", data, meta.length, meta.hashes)
    if targets.version != meta.version:
        raise WrongVersion(f"snapshot names targets version {meta.version}, version {targets.version} came")


class _Saved(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The persisted state: JSON whose strings are the signed files, byte for byte."""

    roots: list[str]
    root_version: int = 0
    timestamp: str = ""
    snapshot: str = ""
    targets: str = ""


def save(state: TrustState) -> bytes:
    """The state as one file, so that one rename replaces all of it."""
    saved = _Saved([data.decode() for data in state.root_bytes])
    if proven := state.proven:
        saved.root_version = proven.root.version
        saved.timestamp = proven.timestamp_bytes.decode()
        saved.snapshot = proven.snapshot_bytes.decode()
        saved.targets = proven.targets_bytes.decode()
    return msgspec.json.encode(saved)


def restore(data: bytes, anchor: TrustState | Digest | None) -> TrustState:
    """The saved state, every signature, version and hash checked again; no clock, no network.

    `anchor` is what the operator gave: a root, the fingerprint of one, or None to go on with what is saved.
    Raises WrongRoot if the saved chain does not contain the anchor, other TrustErrors if it does not hold.
    """
    try:
        saved = msgspec.json.decode(data, type=_Saved)
        texts = [text.encode() for text in saved.roots]
        files = [text.encode() for text in (saved.timestamp, saved.snapshot, saved.targets)]
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise Malformed(f"saved trust cannot be read: {error}") from None
    if isinstance(anchor, TrustState):
        start = next((i for i, text in enumerate(texts) if text == anchor.root_bytes[0]), None)
    elif anchor is not None:
        start = next((i for i, text in enumerate(texts) if sha256(text) == anchor), None)
    else:
        start = 0 if texts else None
    if start is None:
        raise WrongRoot("saved trust does not start from the root that was given")
    state = bootstrap(texts[start])
    provers = {state.root.version: state.root}
    for text in texts[start + 1 :]:
        state = state.add_root(text)
        provers[state.root.version] = state.root
    if not saved.root_version:
        return state
    prover = provers.get(saved.root_version)
    if prover is None:
        raise WrongRoot(f"saved trust was proven by root version {saved.root_version}, which is not in it")
    return TrustState(
        state.root_bytes, state.root, ProvenRevision(files[0], files[1], files[2], prover).check()
    )
