"""Several publishers on one store, and publishers that are killed; all are real processes."""

import os
import random
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lazyfs.client.trust.anchor import anchor_of_directory
from lazyfs.client.trust.revisions import Revisions
from lazyfs.core.digest import object_path, sha256
from lazyfs.core.trust.errors import WrongKey
from lazyfs.repository import keys as key_files
from lazyfs.repository import lifecycle
from lazyfs.repository.commit import read_committed, read_revision
from lazyfs.repository.keys import Keys
from lazyfs.store.directory import DirectoryStore
from lazyfs.transport.local import LocalFetcher
from tests.support.counts import count

COMMIT = """
import sys
from datetime import UTC, datetime
from lazyfs.core import codec
from lazyfs.core.digest import ref_of
from lazyfs.core.errors import UsageError
from lazyfs.repository import keys
from lazyfs.repository.commit import commit_revision, read_revision
from lazyfs.store.directory import DirectoryStore

path, directory, expected, label, rounds = sys.argv[1:]
store, loaded = DirectoryStore(path), keys.load(directory)
print("ready", flush=True)
sys.stdin.readline()
revision = int(expected)
for number in range(int(rounds)):
    plain = f"{label}.{number}".encode()
    ref = ref_of(plain)
    store.put(ref.digest, codec.encode(plain))
    try:
        revision = commit_revision(
            store, loaded, ref, expected_revision=revision, now=datetime.now(UTC)
        ).number
        print("committed", revision, plain.decode(), flush=True)
    except UsageError as error:
        print("refused", error, flush=True)
"""


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    path = str(tmp_path / "store")
    lifecycle.init(path, "test.example.org", datetime.now(UTC), keys=str(tmp_path / "keys"))
    return DirectoryStore(path)


def publisher(store: DirectoryStore, expected: int, label: str, rounds: int = 1) -> subprocess.Popen[str]:
    """Starts a process that waits for a line on stdin, and then commits `rounds` revisions after revision
    `expected`. Their contents begin with `label`."""
    keys = os.path.join(os.path.dirname(store.path), "keys")
    process = subprocess.Popen(
        [sys.executable, "-c", COMMIT, store.path, keys, str(expected), label, str(rounds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def client_sees(store: DirectoryStore, tmp_path: Path) -> int:
    """Returns the number of the revision that a new client verifies. Asserts that the revision's root catalog
    exists."""
    client = Revisions(LocalFetcher(store.path), str(tmp_path / "trust"), anchor_of_directory(store.path))
    revision = client.refresh(datetime.now(UTC), float("inf"))
    assert revision == read_revision(store)
    assert os.path.exists(os.path.join(store.path, object_path(revision.root.digest)))
    return revision.number


def test_of_two_publishers_one_is_refused_and_none_is_lost(store: DirectoryStore, tmp_path: Path) -> None:
    for turn in range(1, count(6, 50)):
        racers = [publisher(store, turn, label) for label in "ab"]
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("\n")
            racer.stdin.flush()
        said = [racer.communicate(timeout=60)[0].split() for racer in racers]
        assert sorted(words[0] for words in said) == ["committed", "refused"], said
        winner = next(words for words in said if words[0] == "committed")
        assert winner[1] == str(turn + 1)
        assert read_revision(store).root.digest == sha256(winner[2].encode())
        assert client_sees(store, tmp_path) == turn + 1


def test_a_publisher_killed_at_any_moment_leaves_a_whole_revision(
    store: DirectoryStore, tmp_path: Path
) -> None:
    moments = random.Random(1)
    last = 1
    for turn in range(count(8, 50)):
        process = publisher(store, last, f"p{turn}", rounds=1000)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        for _ in range(moments.randrange(4)):
            assert process.stdout.readline().startswith("committed")
        process.send_signal(signal.SIGKILL)
        said = process.communicate(timeout=60)[0].splitlines()
        now = client_sees(store, tmp_path)
        assert now >= last + sum(line.startswith("committed") for line in said)
        last = now
    keys = key_files.load(os.path.join(os.path.dirname(store.path), "keys"))
    lifecycle.resign(store, keys, datetime.now(UTC))
    assert client_sees(store, tmp_path) == last


def test_a_number_left_by_a_killed_publisher_is_not_used_again(store: DirectoryStore, tmp_path: Path) -> None:
    """A proxy may have cached the dead publisher's file, so the name of that file must not be used again."""
    store.write_metadata("2.targets.json", b"half a publish", expected=None)
    store.write_metadata("3.snapshot.json", b"half a publish", expected=None)
    process = publisher(store, 1, "x")
    assert process.communicate("\n", timeout=60)[0] == "committed 2 x.0\n"
    assert store.read_metadata("2.targets.json") == b"half a publish"
    assert store.read_metadata("4.targets.json") is not None
    assert client_sees(store, tmp_path) == 2


@pytest.mark.parametrize("role", ["root", "targets", "timestamp"])
def test_a_rotation_killed_after_its_root_is_finished_by_resign(
    store: DirectoryStore, tmp_path: Path, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = keys_of(store)
    client_sees(store, tmp_path)
    killed_rotation(store, role, key_files.load(directory), monkeypatch)
    assert read_revision(store).number == 1
    lifecycle.resign(store, key_files.load(directory), datetime.now(UTC))
    for state in (tmp_path, tmp_path / "fresh"):  # a client that has the old root, and a new one
        assert client_sees(store, state) == 1


@pytest.mark.parametrize("role", ["targets", "timestamp"])
def test_a_rotation_finishes_one_that_was_killed_before_it_adds_a_root(
    store: DirectoryStore, tmp_path: Path, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = keys_of(store)
    first = read_committed(store).state.root.roles[role].keyids
    for _ in range(3):
        killed_rotation(store, role, key_files.load(directory), monkeypatch)
        assert read_committed(store).state.root.version == 2
    second = read_committed(store).state.root.roles[role].keyids
    keys = key_files.load(directory)
    dead = rotate(store, role, keys)
    assert dead == sorted([*first, *second])
    assert client_sees(store, tmp_path) == 1
    assert read_committed(store).proven.root.version == 3


@pytest.mark.parametrize("role", ["targets", "timestamp"])
def test_rotations_whose_new_keys_were_lost_are_finished_too(
    store: DirectoryStore, tmp_path: Path, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that nobody has any more cannot finish a rotation, so the next one adds its root."""
    directory = keys_of(store)
    old = key_files.load(directory)
    for version in (2, 3, 4):
        killed_rotation(store, role, old, monkeypatch)
        assert read_committed(store).state.root.version == version
    lifecycle.resign(store, key_files.load(directory), datetime.now(UTC))
    assert client_sees(store, tmp_path) == 1
    assert read_committed(store).proven.root.version == 4


def test_no_publisher_signs_anew_what_replaced_keys_have_signed(store: DirectoryStore) -> None:
    """A thief of all keys but the root's writes the store, after these keys were replaced. His revision looks
    like the one that a killed rotation leaves."""
    directory = keys_of(store)
    stolen = store.read_metadata("timestamp.json")
    assert stolen is not None
    for role in ("targets", "timestamp"):
        rotate(store, role, key_files.load(directory))
    store.write_metadata("timestamp.json", stolen, expected=store.read_metadata("timestamp.json"))
    keys = key_files.load(directory)
    with pytest.raises(WrongKey):
        lifecycle.resign(store, keys, datetime.now(UTC))
    with pytest.raises(WrongKey):
        rotate(store, "timestamp", keys)


def keys_of(store: DirectoryStore) -> str:
    return os.path.join(os.path.dirname(store.path), "keys")


def rotate(store: DirectoryStore, role: str, keys: Keys) -> list[str]:
    """Replaces the keys of a role by one in the keys' directory; returns the ids of the keys that are no
    longer used."""
    return lifecycle.rotate(
        store, role, lambda: key_files.generate(keys_of(store), [role]), 1, keys, datetime.now(UTC)
    )


class Killed(BaseException):
    pass


def killed_rotation(store: DirectoryStore, role: str, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotates, and is killed when a revision is to be signed."""

    def killed(*_arguments: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "write_revision", killed)
        with pytest.raises(Killed):
            rotate(store, role, keys)
