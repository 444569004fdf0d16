"""A repository in memory that signs any metadata for a test, tampers with answers on request, and counts
fetches."""

import threading
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Role, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from lazyfs.client.trust.anchor import Anchor
from lazyfs.client.trust.revisions import Revisions
from lazyfs.core.digest import Digest, ObjectRef, ref_of, sha256
from lazyfs.core.errors import NotFound, TransportError
from lazyfs.core.params import Params, Revision
from lazyfs.core.trust.revision_fields import TARGET
from lazyfs.core.trust.revision_target import to_target
from lazyfs.core.trust.signed import T
from lazyfs.core.trust.state import bootstrap
from lazyfs.transport.fetcher import Request, never_cancelled

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
NAME = "test.example.org"
Tamper = Callable[[Request, bytes | None], bytes | None]


class SimulatedRepository:
    """A repository and its Fetcher. Signs without the publisher's code, so that it can sign metadata that the
    publisher would refuse."""

    def __init__(self, now: datetime = START, name: str = NAME) -> None:
        self.now = now
        self.name = name
        self.params: Params = Params()
        self.files: dict[str, bytes] = {}
        """The origin's files under metadata/."""
        self.cached: dict[str, bytes] = {}
        """A proxy's cached files, which answer requests without `no_cache`."""
        self.tamper: Tamper = lambda _request, body: body
        """The attacker: gets each request and the true body, and returns another body (None for 404) or
        raises."""
        self.requests: list[Request] = []
        self._mutex = threading.Lock()
        self.signers = {role: [CryptoSigner.generate_ed25519()] for role in ("root", "targets", "timestamp")}
        self.signers["snapshot"] = self.signers["targets"]
        self.root = Root(1, expires=now + timedelta(days=3650), consistent_snapshot=True)
        self.root.roles = {role: Role([], 1) for role in self.signers}
        for role, signers in self.signers.items():
            for signer in signers:
                self.root.add_key(signer.public_key, role)
        self.targets = Targets(1, expires=now + timedelta(days=365))
        self.snapshot = Snapshot(1, expires=now + timedelta(days=365))
        self.timestamp = Timestamp(1, expires=now + timedelta(days=7))
        self.revision = Revision(name, 1, int(now.timestamp()), ref_of(b"1"), self.params)
        self.targets.targets[TARGET] = to_target(self.revision)
        self.write_root()
        self.write_targets()

    # -- publishing ----------------------------------------------------------------------------------------

    def sign(self, signed: T, signers: list[CryptoSigner] | None = None) -> bytes:
        """Returns the metadata file, signed by the role's keys or by `signers`."""
        metadata: Metadata[T] = Metadata(signed)
        for signer in self.signers[signed.type] if signers is None else signers:
            metadata.sign(signer, append=True)
        return metadata.to_bytes(JSONSerializer(compact=True))

    def publish(self) -> Revision:
        """Publishes the next revision."""
        number = self.revision.number + 1
        content = b"%d" % number
        self.revision = Revision(self.name, number, int(self.now.timestamp()), ref_of(content), self.params)
        self.targets.targets[TARGET] = to_target(self.revision)
        self.bump()
        return self.revision

    def bump(self) -> None:
        """Makes new versions of targets, snapshot and timestamp from their present content."""
        self.targets.version += 1
        self.snapshot.version = self.targets.version
        self.timestamp.version += 1
        self.renew()
        self.write_targets()

    def renew(self) -> None:
        """Sets new expiry dates, counted from `now`."""
        self.targets.expires = self.snapshot.expires = self.now + timedelta(days=365)
        self.timestamp.expires = self.now + timedelta(days=7)

    def resign(self) -> None:
        """Signs a new version of the timestamp, with unchanged content."""
        self.timestamp.version += 1
        self.timestamp.expires = self.now + timedelta(days=7)
        self.write_timestamp()

    def rotate(self, role: str, count: int = 1, threshold: int = 1) -> list[CryptoSigner]:
        """Replaces the keys of a role, and returns the old ones. For targets, also replaces the keys of
        snapshot, because the publisher holds both."""
        old = self.signers[role]
        new = [CryptoSigner.generate_ed25519() for _ in range(count)]
        for changed in ("targets", "snapshot") if role == "targets" else (role,):
            for keyid in list(self.root.roles[changed].keyids):
                self.root.revoke_key(keyid, changed)
            for signer in new:
                self.root.add_key(signer.public_key, changed)
            self.root.roles[changed].threshold = threshold
            self.signers[changed] = new
        self.root.version += 1
        self.write_root([*old, *new] if role == "root" else None)
        self.bump()
        return old

    def write_root(self, signers: list[CryptoSigner] | None = None) -> None:
        self.files[f"{self.root.version}.root.json"] = self.sign(self.root, signers)

    def write_targets(self) -> None:
        """Writes targets, and the snapshot and timestamp that name them."""
        data = self.sign(self.targets)
        self.files[f"{self.targets.version}.targets.json"] = data
        self.snapshot.meta = {"targets.json": MetaFile.from_data(self.targets.version, data, ["sha256"])}
        self.write_snapshot()

    def write_snapshot(self) -> None:
        data = self.sign(self.snapshot)
        self.files[f"{self.snapshot.version}.snapshot.json"] = data
        self.timestamp.snapshot_meta = MetaFile.from_data(self.snapshot.version, data, ["sha256"])
        self.write_timestamp()

    def write_timestamp(self) -> None:
        self.files["timestamp.json"] = self.sign(self.timestamp)

    def clone(self) -> "SimulatedRepository":
        """Returns a copy with the same keys and files. It can get a different history, as if a thief used the
        keys."""
        other = SimulatedRepository.__new__(SimulatedRepository)
        other.__dict__.update(self.__dict__)
        for name in ("files", "cached", "root", "targets", "snapshot", "timestamp"):
            setattr(other, name, deepcopy(getattr(self, name)))
        other.signers = dict(self.signers)
        other.requests = []
        return other

    # -- serving -------------------------------------------------------------------------------------------

    def fetch(self, request: Request, check_cancelled: Callable[[], None] = never_cancelled) -> bytes:
        """Returns a file's bytes, as a Fetcher does. They come from `cached`, unless the request says
        `no_cache`."""
        check_cancelled()
        name = request.path.removeprefix("metadata/")
        with self._mutex:
            self.requests.append(request)
            body = self.files.get(name)
            if not request.no_cache:
                body = self.cached.get(name, body)
        body = self.tamper(request, body)
        if body is None:
            raise NotFound(f"{request.path}: 404")
        if len(body) > request.max_bytes:
            raise TransportError(f"{request.path}: more than the {request.max_bytes} bytes expected")
        return request.accept(body)

    def close(self) -> None:
        """Does nothing: the fetcher holds no connection."""

    def fetched(self) -> Counter[str]:
        """Returns the number of requests by name since the last call."""
        with self._mutex:
            names = Counter(request.path.removeprefix("metadata/") for request in self.requests)
            self.requests.clear()
        return names

    # -- clients -------------------------------------------------------------------------------------------

    def fingerprint(self) -> Digest:
        return sha256(self.files["1.root.json"])

    def client(
        self,
        directory: Path,
        *,
        anchor: Anchor | str | None = "root",
        max_stale: float | None = None,
        on_announced: Callable[[tuple[ObjectRef, ...]], None] | None = None,
    ) -> Revisions:
        """Returns a client of this repository; its trust anchor is 1.root.json by default."""
        if isinstance(anchor, str):
            anchor = bootstrap(self.files["1.root.json"])
        return Revisions(
            self,
            str(directory / "trust"),
            anchor,
            max_stale=max_stale,
            wall_clock=self._seconds,
            on_announced=on_announced,
        )

    def _seconds(self) -> float:
        return self.now.timestamp()

    def refresh(self, client: Revisions) -> Revision:
        """Makes a client refresh once, at this repository's time. The client fetches from the repository
        whose method `client` has made it, which may be another repository."""
        return client.refresh(self.now, float("inf"))


def extra_target(content: bytes = b"extra") -> TargetFile:
    """Returns a target that no client asks for."""
    return TargetFile(len(content), {"sha256": sha256(content).hex()}, "extra")
