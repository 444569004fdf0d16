"""A repository from its publisher's side: creation, commits, renewal, and replacement of keys."""

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lazyfs.core import codec
from lazyfs.core.catalog.reader import Catalog
from lazyfs.core.digest import ObjectRef, ref_of
from lazyfs.core.errors import UsageError
from lazyfs.core.params import Params
from lazyfs.core.trust.errors import WrongKey
from lazyfs.core.trust.roles import ROOT, TARGETS, TIMESTAMP
from lazyfs.repository import keys as key_files
from lazyfs.repository import lifecycle
from lazyfs.repository.commit import (
    PUBLISHER_DAYS,
    TIMESTAMP_DAYS,
    commit_revision,
    read_committed,
    read_revision,
)
from lazyfs.repository.keys import Keys
from lazyfs.store.directory import DirectoryStore

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
NAME = "test.example.org"


@pytest.fixture
def keys_directory(tmp_path: Path) -> str:
    return str(tmp_path / "keys")


@pytest.fixture
def store(tmp_path: Path, keys_directory: str) -> DirectoryStore:
    path = str(tmp_path / "store")
    lifecycle.init(path, NAME, NOW, keys=keys_directory, params=Params(chunk_shift=17))
    return DirectoryStore(path)


def put(store: DirectoryStore, plain: bytes) -> ObjectRef:
    ref = ref_of(plain)
    store.put(ref.digest, codec.encode(plain))
    return ref


def test_init_commits_an_empty_first_revision_with_its_parameters(store: DirectoryStore) -> None:
    revision = read_revision(store)
    assert (revision.name, revision.number, revision.time) == (NAME, 1, int(NOW.timestamp()))
    assert revision.params == Params(chunk_shift=17)
    ref = revision.root
    catalog = Catalog(codec.open_object(store.get(ref.digest), ref))
    assert catalog.header.live
    assert catalog.header.totals.entries == 0


def test_private_keys_are_for_their_owner_only(store: DirectoryStore, keys_directory: str) -> None:
    assert stat.S_IMODE(os.stat(keys_directory).st_mode) == 0o700
    names = sorted(os.listdir(keys_directory))
    assert [name.split("-")[0] for name in names] == ["root", "targets", "timestamp"]
    for name in names:
        assert stat.S_IMODE(os.stat(os.path.join(keys_directory, name)).st_mode) == 0o600
    os.chmod(os.path.join(keys_directory, names[0]), 0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        key_files.load(keys_directory)


@pytest.mark.parametrize("place", ["", "keys", "data/keys", "../link/keys"])
def test_keys_never_lie_under_the_store(tmp_path: Path, place: str) -> None:
    (tmp_path / "link").symlink_to("store")
    (tmp_path / "store").mkdir()
    with pytest.raises(UsageError, match="lies under the store"):
        lifecycle.init(str(tmp_path / "store"), NAME, NOW, keys=str(tmp_path / "store" / place))
    assert list((tmp_path / "store").iterdir()) == []


def test_init_touches_neither_an_existing_repository_nor_existing_keys(
    store: DirectoryStore, keys_directory: str, tmp_path: Path
) -> None:
    before = read_committed(store).proven
    with pytest.raises(UsageError, match="holds a repository already"):
        lifecycle.init(store.path, NAME, NOW, keys=str(tmp_path / "other"))
    with pytest.raises(UsageError, match="holds keys already"):
        lifecycle.init(str(tmp_path / "second"), NAME, NOW, keys=keys_directory)
    assert read_committed(store).proven.timestamp_bytes == before.timestamp_bytes
    assert not (tmp_path / "other").exists()
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b", "ä"])
def test_a_repository_name_must_be_a_file_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="repository name"):
        lifecycle.init(str(tmp_path / "store"), name, NOW)


def test_commit_makes_the_next_revision(store: DirectoryStore, keys_directory: str) -> None:
    ref = put(store, b"catalog")
    made = commit_revision(store, key_files.load(keys_directory), ref, expected_revision=1, now=NOW)
    assert read_revision(store) == made
    assert (made.number, made.root, made.params.chunk_shift) == (2, ref, 17)
    assert ref.size == 7


def test_a_commit_on_a_revision_that_has_passed_is_refused(
    store: DirectoryStore, keys_directory: str
) -> None:
    keys = key_files.load(keys_directory)
    first = commit_revision(store, keys, put(store, b"first"), expected_revision=1, now=NOW)
    with pytest.raises(UsageError, match="publish again"):
        commit_revision(store, keys, put(store, b"second"), expected_revision=1, now=NOW)
    assert read_revision(store) == first


def test_a_commit_of_a_catalog_that_is_not_stored_is_refused(
    store: DirectoryStore, keys_directory: str
) -> None:
    with pytest.raises(UsageError, match="not in the store"):
        commit_revision(
            store, key_files.load(keys_directory), ref_of(b"absent"), expected_revision=1, now=NOW
        )
    assert read_revision(store).number == 1


def test_the_timestamp_key_renews_and_cannot_publish(
    store: DirectoryStore, keys_directory: str, tmp_path: Path
) -> None:
    cron = tmp_path / "cron"
    cron.mkdir(0o700)
    for name in os.listdir(keys_directory):
        if name.startswith(TIMESTAMP):
            os.rename(os.path.join(keys_directory, name), cron / name)
    keys = key_files.load(str(cron))
    renewed = lifecycle.resign(store, keys, NOW + timedelta(days=6))
    assert renewed.expires == NOW + timedelta(days=6 + TIMESTAMP_DAYS)
    assert read_revision(store).number == 1
    with pytest.raises(UsageError, match="0 of the 1 targets keys"):
        commit_revision(store, keys, put(store, b"x"), expected_revision=1, now=NOW)
    with pytest.raises(UsageError, match="0 of the 1 timestamp keys"):
        lifecycle.resign(store, key_files.load(keys_directory), NOW)


def test_resign_renews_targets_and_snapshot_before_they_expire(
    store: DirectoryStore, keys_directory: str
) -> None:
    keys = key_files.load(keys_directory)
    early = lifecycle.resign(store, keys, NOW + timedelta(days=100))
    assert early.publisher_expires == NOW + timedelta(days=PUBLISHER_DAYS)
    late = lifecycle.resign(store, keys, NOW + timedelta(days=200))
    assert late.publisher_expires == NOW + timedelta(days=200 + PUBLISHER_DAYS)
    assert read_revision(store).number == 1


@pytest.mark.parametrize("role", [ROOT, TARGETS, TIMESTAMP])
def test_rotation_replaces_the_keys_of_one_role(
    store: DirectoryStore, keys_directory: str, role: str
) -> None:
    old = key_files.load(keys_directory)
    before = read_revision(store)
    new = key_files.generate(keys_directory, [role, role])
    dead = lifecycle.rotate(store, role, lambda: new, 2, old, NOW)
    retired = key_files.retire(keys_directory, dead)
    assert [os.path.basename(path).split("-")[0] for path in retired] == [role]
    assert read_revision(store) == before
    assert read_committed(store).state.root.roles[role].threshold == 2
    made = commit_revision(
        store, key_files.load(keys_directory), put(store, b"next"), expected_revision=1, now=NOW
    )
    assert read_revision(store) == made
    if role == TARGETS:
        with pytest.raises(UsageError, match="0 of the 2 targets keys"):
            commit_revision(store, old, put(store, b"more"), expected_revision=2, now=NOW)


@pytest.mark.parametrize("change", ["commit", "resign", ROOT, TARGETS, TIMESTAMP])
def test_what_was_read_before_is_not_taken_for_what_was_committed_since(
    store: DirectoryStore, keys_directory: str, change: str
) -> None:
    keys = key_files.load(keys_directory)
    known = read_committed(store)
    assert read_committed(store, known) is known
    if change == "commit":
        commit_revision(store, keys, put(store, b"next"), expected_revision=1, now=NOW)
    elif change == "resign":
        lifecycle.resign(store, keys, NOW + timedelta(days=1))
    else:
        new = key_files.generate(keys_directory, [change])
        lifecycle.rotate(store, change, lambda: new, 1, keys, NOW)
    found = read_committed(store, known)
    assert found.proven != known.proven or found.state.root.version > known.state.root.version
    assert found == read_committed(store)


def test_rotation_needs_as_many_root_keys_as_the_root_says(tmp_path: Path) -> None:
    path, online, safe = (str(tmp_path / name) for name in ("store", "online", "safe"))
    lifecycle.init(path, NAME, NOW, keys=online, root_keys=safe, root_count=3, root_threshold=2)
    store = DirectoryStore(path)
    roots = key_files.load(safe).signers(read_committed(store).state.root, ROOT)
    new = key_files.generate(online, [TIMESTAMP])
    with pytest.raises(UsageError, match="1 of the 2 root keys"):
        lifecycle.rotate(store, TIMESTAMP, lambda: new, 1, key_files.load(online) | Keys(roots[:1]), NOW)
    assert read_committed(store).state.root.version == 1
    lifecycle.rotate(store, TIMESTAMP, lambda: new, 1, key_files.load(online) | Keys(roots[:2]), NOW)
    assert read_committed(store).state.root.version == 2


def test_a_store_damaged_by_another_key_is_reported(store: DirectoryStore, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    lifecycle.init(other, NAME, NOW, keys=str(tmp_path / "keys2"))
    foreign = DirectoryStore(other).read_metadata("timestamp.json")
    assert foreign is not None
    store.write_metadata("timestamp.json", foreign, expected=store.read_metadata("timestamp.json"))
    with pytest.raises(WrongKey):
        read_revision(store)
