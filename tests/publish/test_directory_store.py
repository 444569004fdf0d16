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


def fail_at(count: int, call: Callable[..., Any], number: int) -> Callable[..., Any]:
    """Returns a function that does as `call`, but raises an OSError of this number from call `count` on."""
    calls = iter(range(count - 1))

    def called(*paths: str) -> Any:
        if next(calls, None) is None:
            raise OSError(number, os.strerror(number), *paths[:1])
        return call(*paths)

    return called


def is_named(store: DirectoryStore, digest: Digest) -> bool:
    return os.path.exists(os.path.join(store.path, object_path(digest)))


FAILURES = [
    pytest.param(directory, "_make_directory", errno.ENOSPC, id="no room for a directory"),
    pytest.param(os, "rename", errno.ENOSPC, id="no room for a name"),
    pytest.param(durable_file, "flush", errno.EIO, id="a directory cannot be flushed"),
]


@pytest.mark.parametrize(("module", "name", "number"), FAILURES)
@pytest.mark.parametrize("abandoned", [True, False])
def test_a_batch_that_got_only_some_of_its_names(
    store: DirectoryStore,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
    number: int,
    abandoned: bool,
) -> None:
    """The error is that of the disk. What has its name stays, and counts as stored only once its directory is
    flushed; the rest goes with the batch, or gets its names from the next `sync`."""
    flushed: list[str] = []
    flush = durable_file.flush

    def noted(path: str) -> None:
        flush(path)
        flushed.append(path)

    monkeypatch.setattr(directory, "SYNCFS_FROM", 0)  # so that only directories are flushed by themselves
    monkeypatch.setattr(durable_file, "flush", noted)
    digests = [put(store, b"%d" % one) for one in range(6)]
    with monkeypatch.context() as failing:
        failing.setattr(module, name, fail_at(4, getattr(module, name), number))
        with pytest.raises(StoreError, match=os.strerror(number)):
            store.sync()
    if abandoned:
        store.abandon()
        assert os.listdir(os.path.join(store.path, ".tmp")) == []
        assert [store.has(digest) for digest in digests] == [is_named(store, digest) for digest in digests]
    store.sync()
    named = [digest for digest in digests if is_named(store, digest)]
    assert len(named) >= 3 if abandoned else named == digests
    assert {os.path.dirname(os.path.join(store.path, object_path(digest))) for digest in named} <= set(
        flushed
    )
    for digest in digests:
        store.put(digest, codec.encode(b"%d" % digests.index(digest)))
    store.sync()
    assert all(is_named(store, digest) for digest in digests)
    assert os.listdir(os.path.join(store.path, ".tmp")) == []


@pytest.mark.parametrize("files", [1, directory.SYNCFS_FROM])
def test_bytes_that_could_not_be_flushed_are_written_anew(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    """The kernel states the loss of a file's bytes once. A second flush succeeds, and means nothing."""
    digests = [put(store, b"%d" % one) for one in range(files)]

    fail = fail_at(1, int, errno.EIO)
    with monkeypatch.context() as failing:
        failing.setattr(durable_file, "flush", fail)
        failing.setattr(directory._libc, "syncfs", fail)
        with pytest.raises(StoreError, match="Input/output error"):
            store.sync()
    with pytest.raises(StoreError, match="Input/output error"):
        store.sync()
    store.abandon()
    assert not any(map(store.has, digests))
    put(store, b"0")
    store.sync()
    assert is_named(store, sha256(b"0"))


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
