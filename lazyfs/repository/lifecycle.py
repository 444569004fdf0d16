"""The life of a repository: its creation, the renewal of its expiry, the replacement of its keys."""

import stat
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Role, Root

from lazyfs.core import codec
from lazyfs.core.catalog.builder import build
from lazyfs.core.catalog.inode import Inode
from lazyfs.core.digest import EMPTY, Digest, ObjectRef, sha256
from lazyfs.core.errors import UsageError
from lazyfs.core.history.head import History
from lazyfs.core.params import Params, Revision
from lazyfs.core.trust.roles import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, file_name
from lazyfs.core.trust.signed import load_root
from lazyfs.repository import collection_state
from lazyfs.repository import keys as key_files
from lazyfs.repository.commit import (
    PUBLISHER_DAYS,
    TIMESTAMP_DAYS,
    read_committed,
    sign_metadata,
    write_revision,
    write_timestamp,
)
from lazyfs.repository.keys import Keys
from lazyfs.repository.stored_history import first_entry, write_history
from lazyfs.store import Store, create_store, find_store

ROOT_DAYS = 3650
"""Days until the root expires. The root keys lie in a safe and are rarely used: if the root expired each
year, all clients would stop in the year in which nobody thought of the safe."""


_NO_CATALOG = ObjectRef(EMPTY, 0)


@dataclass(frozen=True)
class NewRepository:
    """A repository that `init` has made."""

    revision: Revision
    fingerprint: Digest
    """SHA-256 of 1.root.json, which clients are given to trust."""
    keys_directory: str
    root_keys_directory: str


@dataclass(frozen=True)
class RenewedExpiry:
    """The expiry of a repository's metadata after `resign`."""

    expires: datetime
    """The timestamp's expiry."""
    publisher_expires: datetime
    """The expiry of the targets file or of the snapshot file, whichever is earlier. Only a machine with the
    publisher's key renews them."""


def init(
    location: str,
    name: str,
    now: datetime,
    *,
    keys: str | None = None,
    root_keys: str | None = None,
    root_count: int = 1,
    root_threshold: int = 1,
    params: Params | None = None,
    timestamp_days: float = TIMESTAMP_DAYS,
) -> NewRepository:
    """Makes keys and a first, empty revision in the store at `location`; the store is made if it is missing,
    and must not hold a repository.

    Raises UsageError for an invalid name, a root threshold outside 1 to `root_count`, keys under the store,
    and existing keys or repositories.
    """
    directory = keys or key_files.default_directory(key_files.check_repository_name(name))
    root_directory = root_keys or directory
    if not 1 <= root_threshold <= root_count:
        raise UsageError(
            f"root threshold {root_threshold} is outside 1 to {root_count}, the number of root keys"
        )
    _check_unused(location, (directory, root_directory))
    params = (params or Params()).check()
    store = create_store(location)
    roots = key_files.generate(root_directory, [ROOT] * root_count)
    publisher, stamper = key_files.generate(directory, [TARGETS, TIMESTAMP])
    new = Revision(name, 1, int(now.timestamp()), _NO_CATALOG, params)
    data, revision = begin(store, new, roots, root_threshold, publisher, stamper, now, timestamp_days)
    return NewRepository(revision, sha256(data), directory, root_directory)


def begin(
    store: Store,
    new: Revision,
    roots: list[CryptoSigner],
    root_threshold: int,
    publisher: CryptoSigner,
    stamper: CryptoSigner,
    now: datetime,
    timestamp_days: float = TIMESTAMP_DAYS,
) -> tuple[bytes, Revision]:
    """Writes the first root and an empty first revision into an empty store; returns the root's file and the
    revision. `new`: only its name, number, time and parameters are used. `roots`, `publisher`, `stamper`: the
    keys of the root, of the files targets and snapshot, and of the timestamp."""
    root = Root(
        1,
        expires=(now + timedelta(days=ROOT_DAYS)).replace(microsecond=0),
        keys={signer.public_key.keyid: signer.public_key for signer in (*roots, publisher, stamper)},
        roles={
            ROOT: Role([signer.public_key.keyid for signer in roots], root_threshold),
            TARGETS: Role([publisher.public_key.keyid], 1),
            SNAPSHOT: Role([publisher.public_key.keyid], 1),
            TIMESTAMP: Role([stamper.public_key.keyid], 1),
        },
        consistent_snapshot=True,
    )
    data = sign_metadata(root, roots)
    with store.exclusive():
        store.write_metadata(file_name(ROOT, 1), data, expected=None)
        empty = _empty_catalog(store, new.params, now)
        revision = msgspec.structs.replace(new, root=empty)
        history = write_history(store, History((first_entry(revision),)), None)
        store.sync()
        revision = msgspec.structs.replace(revision, history=history)
        store.write_metadata(collection_state.FILE, collection_state.EMPTY, expected=None)
        write_revision(store, Keys([publisher, stamper]), root, revision, None, now, timestamp_days)
    return data, revision


def resign(store: Store, keys: Keys, now: datetime, days: float = TIMESTAMP_DAYS) -> RenewedExpiry:
    """Renews the expiry of the timestamp. If `keys` has the publisher's key, renews the expiry of the targets
    file and the snapshot file too once half of their time has passed. Raises UsageError if `keys` lacks the
    timestamp's key."""
    with store.exclusive():
        committed = read_committed(store)
        root, proven = committed.state.root, committed.proven
        signers = keys.require(root, TIMESTAMP, "--keys")
        oldest = min(proven.snapshot.expires, proven.targets.expires)
        unfinished = proven.root is not root  # a rotation was killed: its revision lacks the new signatures
        due = oldest - now < timedelta(days=PUBLISHER_DAYS / 2)
        if unfinished or (due and _are_enough(keys, root, (TARGETS, SNAPSHOT))):
            write_revision(store, keys, root, proven.revision, proven, now, days)
            renewed = read_committed(store).proven
            return RenewedExpiry(renewed.timestamp.expires, renewed.targets.expires)
        version = proven.snapshot.version
        expires = write_timestamp(
            store, signers, version, proven.snapshot_bytes, proven.revision, proven, now, days
        )
        return RenewedExpiry(expires, oldest)


def rotate(
    store: Store,
    role: str,
    make: Callable[[], Sequence[CryptoSigner]],
    threshold: int,
    keys: Keys,
    now: datetime,
) -> list[str]:
    """Replaces all keys of `role` by means of a new root. `role`: ROOT, TIMESTAMP, or TARGETS, which includes
    SNAPSHOT.

    `make` writes the new keys to disk and returns them; it is called after the old keys have been checked.
    `keys` holds the present root keys and the keys of the roles that stay. The committed revision is signed
    again at once, so clients see the new root with the old signatures only for a moment. An earlier rotation
    that was killed in that moment is finished first, if `keys` has what it needs. Returns the ids of the keys
    that no role uses any more. Raises UsageError.
    """
    with store.exclusive():
        committed = read_committed(store)
        old = committed.state.root
        keys.require(old, ROOT, "--root-keys")
        for staying in {TARGETS, SNAPSHOT, TIMESTAMP} - set(_changed(role)):
            keys.require(old, staying, "--keys")
        used = set(old.keys) | set(committed.proven.root.keys)
        if committed.proven.root is not old and _are_enough(keys, old, (TARGETS, SNAPSHOT, TIMESTAMP)):
            proven = committed.proven
            write_revision(store, keys, old, proven.revision, proven, now, TIMESTAMP_DAYS)
            committed = read_committed(store)
        new = make()
        if not 1 <= threshold <= len(new):
            raise UsageError(
                f"threshold {threshold} is outside 1 to {len(new)}, the number of new {role} keys"
            )
        root = deepcopy(old)
        root.version += 1
        root.expires = (now + timedelta(days=ROOT_DAYS)).replace(microsecond=0)
        for changed in _changed(role):
            for keyid in list(root.roles[changed].keyids):
                root.revoke_key(keyid, changed)
            for signer in new:
                root.add_key(signer.public_key, changed)
            root.roles[changed].threshold = threshold
        signers = keys.signers(old, ROOT)
        data = sign_metadata(root, [*signers, *new] if role == ROOT else signers)
        load_root(data, old)
        store.write_metadata(file_name(ROOT, root.version), data, expected=None)
        proven = committed.proven
        write_revision(store, keys | Keys(new), root, proven.revision, proven, now, TIMESTAMP_DAYS)
        return sorted(used - set(root.keys))


def _are_enough(keys: Keys, root: Root, roles: Sequence[str]) -> bool:
    """Returns True if `keys` can sign for all these roles."""
    return all(len(keys.signers(root, role)) >= root.roles[role].threshold for role in roles)


def _changed(role: str) -> tuple[str, ...]:
    """Returns the roles whose keys change with `role`: the publisher's keys sign two roles' files."""
    return (TARGETS, SNAPSHOT) if role == TARGETS else (role,)


def _check_unused(location: str, key_directories: Sequence[str]) -> None:
    """Raises UsageError if the store has a repository in it, or a directory has keys or lies under the
    store."""
    for directory in key_directories:
        key_files.check_apart(directory, location)
    store = find_store(location)
    files = (file_name(ROOT, 1), file_name(TIMESTAMP, 0))
    if store and any(store.read_metadata(file) is not None for file in files):
        raise UsageError(f"store {location} holds a repository already: choose another directory")
    for directory in key_directories:
        if not key_files.is_empty(directory):
            raise UsageError(
                f"keys directory {directory} holds keys already: they may be another repository's; "
                "choose another with --keys"
            )


def _empty_catalog(store: Store, params: Params, now: datetime) -> ObjectRef:
    def emit(ref: ObjectRef, plain: bytes) -> None:
        store.put(ref.digest, codec.encode(plain))

    top = Inode(stat.S_IFDIR | 0o755, mtime=int(now.timestamp()) * 10**9)
    made = build(top, params.catalog_entries, emit, live=True)
    store.sync()
    return made.ref
