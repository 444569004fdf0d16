"""The directory store: names appear atomically, the first writer of an object wins, and one publisher commits
at a time."""

import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lazyfs.core import codec
from lazyfs.core.digest import Digest, object_path, sha256
from lazyfs.core.errors import NotFound, UsageError
from lazyfs.store import create_store, directory
from lazyfs.store.directory import DirectoryStore
from lazyfs.store.protocol import StoreError
from lazyfs.system import durable_file


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore.create(str(tmp_path / "store"))


def put(store: DirectoryStore, plain: bytes) -> Digest:
    digest = sha256(plain)
    store.put(digest, codec.encode(plain))
    return digest


def test_an_object_is_readable_at_once_and_named_after_sync(store: DirectoryStore) -> None:
    digest = put(store, b"hello")
    name = os.path.join(store.path, object_path(digest))
    assert store.has(digest)
    assert codec.decode(store.get(digest), 5) == b"hello"
    assert not os.path.exists(name)
    store.sync()
    assert codec.decode(store.get(digest), 5) == b"hello"
    assert os.path.exists(name)
    assert os.listdir(os.path.join(store.path, ".tmp")) == []


def test_an_object_can_be_read_while_its_batch_gets_its_names(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a batch of objects gets its final names, other threads can already read the objects. In a run of
    the service, some threads read layers that others have just stored."""
    digests = [put(store, b"%d" % number) for number in range(3)]
    read: list[bytes] = []
    rename = os.rename

    def renamed(source: str, target: str) -> None:
        rename(source, target)
        read.extend(codec.decode(store.get(digest), 1) for digest in digests)

    monkeypatch.setattr(os, "rename", renamed)
    store.sync()
    assert read == [b"0", b"1", b"2"] * 3


def test_first_writer_wins(store: DirectoryStore) -> None:
    digest = sha256(b"x")
    store.put(digest, b"first")
    store.put(digest, b"second")
    store.sync()
    store.put(digest, b"third")
    store.sync()
    assert store.get(digest) == b"first"


def test_first_writer_wins_between_two_stores_on_one_directory(store: DirectoryStore) -> None:
    digest = sha256(b"x")
    other = DirectoryStore(store.path)
    store.put(digest, b"first")
    other.put(digest, b"second")
    store.sync()
    other.sync()
    assert store.get(digest) == b"first"
    assert os.listdir(os.path.join(store.path, ".tmp")) == []


def test_missing_object_is_not_found(store: DirectoryStore) -> None:
    with pytest.raises(NotFound, match=sha256(b"no").hex()):
        store.get(sha256(b"no"))


@pytest.mark.parametrize("files", [1, directory.SYNCFS_FROM])
def test_objects_and_their_directories_are_flushed_before_they_are_named(
    store: DirectoryStore, files: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    real_fsync, real_rename, real_flush = durable_file.flush, os.rename, store._flush

    def fsync(path: str) -> None:
        events.append("directory" if os.path.isdir(path) else "file")
        real_fsync(path)

    def rename(source: str, target: str) -> None:
        events.append("rename")
        real_rename(source, target)

    def flush(paths: list[str]) -> None:
        real_flush(paths)
        events.append(f"flushed {len(paths)}")

    monkeypatch.setattr(durable_file, "flush", fsync)
    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(store, "_flush", flush)
    directories = {put(store, b"%d" % number)[0] for number in range(files)}
    assert events == []
    store.sync()
    assert events[: events.index("rename")][-1] == f"flushed {files}"
    assert events.count("rename") == files
    after = events[len(events) - events[::-1].index("rename") :]
    assert after == ["directory"] * (len(directories) + 1)  # one for each data/ab, and one for data


def test_a_full_batch_is_named_without_being_asked(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "BATCH_OBJECTS", 3)
    digests = [put(store, b"%d" % number) for number in range(4)]
    named = [os.path.exists(os.path.join(store.path, object_path(digest))) for digest in digests]
    assert named == [True, True, True, False]


def test_an_object_that_is_written_while_a_batch_ends_is_named_by_the_next(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads write. Regression: the first closed its batch while the second wrote to it. The second's
    sync then failed with EBADF."""
    write = durable_file.write_unnamed

    def written_late(*arguments: Any, **named: Any) -> str:
        monkeypatch.setattr(durable_file, "write_unnamed", write)
        thread = threading.Thread(target=store.sync)
        thread.start()
        thread.join()
        return write(*arguments, **named)

    put(store, b"first")
    monkeypatch.setattr(durable_file, "write_unnamed", written_late)
    late = put(store, b"late")
    store.sync()
    assert os.path.exists(os.path.join(store.path, object_path(late)))


def test_a_web_server_may_read_everything_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        store = DirectoryStore.create(str(tmp_path / "store"))
        digest = put(store, b"hello")
        store.sync()
        store.write_metadata("timestamp.json", b"{}", expected=None)
    finally:
        os.umask(old)
    for name, mode in [
        ("", 0o755),
        ("data", 0o755),
        (os.path.dirname(object_path(digest)), 0o755),
        (object_path(digest), 0o644),
        ("metadata", 0o755),
        ("metadata/timestamp.json", 0o644),
    ]:
        assert stat.S_IMODE(os.stat(os.path.join(store.path, name)).st_mode) == mode, name


def test_metadata_is_replaced_only_when_that_is_meant(store: DirectoryStore) -> None:
    assert store.read_metadata("1.targets.json") is None
    store.write_metadata("1.targets.json", b"a", expected=None)
    with pytest.raises(UsageError, match="another publisher was first"):
        store.write_metadata("1.targets.json", b"b", expected=None)
    assert store.read_metadata("1.targets.json") == b"a"
    store.write_metadata("1.targets.json", b"c", expected=b"a")
    assert store.read_metadata("1.targets.json") == b"c"
    assert os.listdir(os.path.join(store.path, ".tmp")) == []


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden"])
def test_metadata_names_stay_in_their_directory(store: DirectoryStore, name: str) -> None:
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        store.write_metadata(name, b"", expected=None)


def test_the_lock_names_its_holder_and_ends_with_its_process(store: DirectoryStore) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from lazyfs.store.directory import DirectoryStore\n"
            "with DirectoryStore(sys.argv[1]).exclusive():\n"
            "    print('held', flush=True); sys.stdin.read()",
            store.path,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    with holder:
        assert holder.stdout.readline() == b"held\n"
        impatient = DirectoryStore(store.path, lock_wait=0)
        with pytest.raises(UsageError, match=f"process {holder.pid} on "), impatient.exclusive():
            pass
        holder.kill()
        holder.wait()
        with impatient.exclusive():
            pass


def test_a_directory_that_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="lazyfs repo init"):
        DirectoryStore(str(tmp_path / "nothing"))


def test_a_url_is_not_taken_for_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="which a web server serves"):
        create_store("https://host/store")
    assert list(tmp_path.iterdir()) == []


def move_away(path: Path) -> None:
    path.rename(path.with_name(path.name + ".away"))


def lead_nowhere(path: Path) -> None:
    move_away(path)
    path.symlink_to(path.with_name("not-mounted"))


def be_a_file(path: Path) -> None:
    move_away(path)
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("part", "fail"),
    [
        ("data", move_away),
        ("data", lead_nowhere),
        ("data/ab", lead_nowhere),
        ("data/ab", be_a_file),
        ("data/ab/object", lead_nowhere),
    ],
)
def test_an_object_that_cannot_be_reached_is_not_taken_for_one_that_is_not_there(
    store: DirectoryStore, part: str, fail: Callable[[Path], None]
) -> None:
    digest = put(store, b"hello")
    store.sync()
    shard, name = object_path(digest).removeprefix("data/").split("/")
    fail(Path(store.path, part.replace("ab", shard).replace("object", name)))
    with pytest.raises(StoreError):
        store.get(digest)


def test_an_object_of_a_directory_that_was_never_made_is_not_there(store: DirectoryStore) -> None:
    digest = put(store, b"hello")
    store.sync()
    move_away(Path(store.path, object_path(digest)).parent)
    assert not store.has(digest)
    with pytest.raises(NotFound):
        store.get(digest)


@pytest.mark.parametrize("fail", [move_away, lead_nowhere, be_a_file])
def test_metadata_that_cannot_be_reached_is_not_taken_for_none(
    store: DirectoryStore, fail: Callable[[Path], None]
) -> None:
    store.write_metadata("collection.json", b"leases", expected=None)
    fail(
        Path(store.path, "metadata", "collection.json")
        if fail is lead_nowhere
        else Path(store.path, "metadata")
    )
    with pytest.raises(StoreError):
        store.read_metadata("collection.json")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_look_that_fails_says_nothing_about_an_object(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """An NFS server that has restarted answers ESTALE. Regression: os.path.exists took this for a missing
    file."""
    digest = put(store, b"hello")
    store.sync()

    def fail(path: str, *_arguments: Any, **_named: Any) -> None:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(os, "stat", fail)
    monkeypatch.setattr(directory, "open", fail, raising=False)
    for look in (store.has, store.get):
        with pytest.raises(StoreError, match=os.strerror(number)):
            look(digest)
    with pytest.raises(StoreError, match=os.strerror(number)):
        store.read_metadata("collection.json")


def test_a_failing_disk_is_one_clear_error(tmp_path: Path, store: DirectoryStore) -> None:
    os.rmdir(os.path.join(store.path, "metadata"))
    with pytest.raises(StoreError, match="No such file or directory"):
        store.write_metadata("timestamp.json", b"{}", expected=None)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="File exists"):
        DirectoryStore.create(str(tmp_path / "file"))
