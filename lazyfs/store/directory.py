"""A store in a local directory, served by any web server.

Objects are written to files in `.tmp/`, which are renamed to their paths under data/ in batches, after one
flush of the whole batch to stable storage. So a file under data/ never has bytes that a power failure could
still take away: a later publisher relies on the file and does not write the object again. Files that a killed
publisher leaves in `.tmp/` are not part of the store.
"""

import ctypes
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property

from lazyfs.core.digest import Digest, object_path
from lazyfs.core.errors import NotFound, UsageError
from lazyfs.store import absence, object_files, reserve
from lazyfs.store.failures import reported
from lazyfs.store.protocol import StoreConflict, StoredObject
from lazyfs.system import durable_file
from lazyfs.system.file_lock import lock_within

BATCH_OBJECTS = 1024
BATCH_BYTES = 256 << 20
"""A batch is flushed and renamed into data/ when it reaches BATCH_OBJECTS or BATCH_BYTES, so that a killed
publisher repeats at most one batch."""

SYNCFS_FROM = 32
"""A batch of this many files or more is flushed by one syncfs(2), a smaller one by an fsync(2) for each file:
1000 files of 4 KiB on ext4 took 0.25 s with fsync and 0.016 s with syncfs."""

LOCK_WAIT = 10.0
"""Seconds for which a publisher that commits waits for another publisher; a commit takes milliseconds."""

_FILE_MODE = 0o644
_DIRECTORY_MODE = 0o755
_libc = ctypes.CDLL(None, use_errno=True)


class DirectoryStore:
    """A store in a directory. Safe to use from several threads, and from several processes at once."""

    writers = min(os.cpu_count() or 1, 4)

    def __init__(self, path: str, *, lock_wait: float = LOCK_WAIT) -> None:
        """Raises UsageError if `path` is not a directory."""
        if not os.path.isdir(path):
            raise UsageError(
                f"store {path} is not a directory: make one with lazyfs repo init {path} --name NAME"
            )
        self.path = os.path.abspath(path)
        self._lock_wait = lock_wait
        self._pending: dict[Digest, str] = {}
        self._pending_bytes = 0
        self._unflushed: set[str] = set()
        """The directories in which objects have got their names since these were last flushed."""
        self._lost: OSError | None = None
        """The error of a flush that failed. The kernel states such an error once, so a second flush would
        succeed although the bytes are lost."""
        self._mutex = threading.RLock()
        self._opened_with_batch = -1
        """A descriptor opened when the batch began: syncfs(2) reports only write errors since the descriptor
        was opened."""

    @classmethod
    def create(cls, path: str) -> "DirectoryStore":
        """Returns the store in `path`; its directories are made if they are missing."""
        with reported(path):
            for part in (path, os.path.join(path, "data"), os.path.join(path, "metadata")):
                _make_directory(part)
            reserve.set_aside(path)
        return cls(path)

    def has(self, digest: Digest) -> bool:
        if digest in self._pending:
            return True
        with reported(self.path):
            return _exists(self._object(digest))

    def put(self, digest: Digest, frame: bytes) -> None:
        if self.has(digest):
            return
        with reported(self.path):
            self._open_batch()
            temporary = durable_file.write_unnamed(self._temporary, frame, mode=_FILE_MODE)
            with self._mutex:
                if digest in self._pending:
                    os.unlink(temporary)
                    return
                self._open_batch()  # another thread may have ended the one that was open before the write
                self._pending[digest] = temporary
                self._pending_bytes += len(frame)
                if len(self._pending) >= BATCH_OBJECTS or self._pending_bytes >= BATCH_BYTES:
                    self.sync()

    def _open_batch(self) -> None:
        with self._mutex:
            if self._opened_with_batch < 0:
                self._opened_with_batch = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def get(self, digest: Digest) -> bytes:
        with reported(self.path):
            # Another thread may be giving the object its name: then its file is at the second.
            for path in filter(None, (self._pending.get(digest), self._object(digest))):
                try:
                    with open(path, "rb") as file:
                        return file.read()
                except FileNotFoundError:
                    continue
            absence.check_absent(self._object(digest))
        raise NotFound(f"object {digest.hex()} is not in store {self.path}")

    def objects(self) -> Iterator[StoredObject]:
        with reported(self.path):
            yield from object_files.list_objects(self.path)

    def delete(self, digests: Sequence[Digest]) -> None:
        with reported(self.path):
            object_files.delete_objects(self.path, digests)

    def delete_unnamed(self, before: float) -> int:
        with reported(self.path):
            return object_files.delete_older(self._temporary, before)

    def now(self) -> float:
        """Returns the time on the filesystem's clock, which on NFS is the server's."""
        with reported(self.path):
            data = os.path.join(self.path, "data")
            os.utime(data)
            return os.stat(data).st_mtime

    @contextmanager
    def spare(self) -> Iterator[None]:
        with reported(self.path):
            reserve.give_up(self.path)
        try:
            yield
        finally:
            with reported(self.path):
                reserve.set_aside(self.path)

    def sync(self) -> None:
        """Gives the batch its names, durably. After an error the objects that have their names stay, those
        that have none are still pending, and the next `sync` goes on with both. If the flush of a file has
        failed, each `sync` fails until the batch is abandoned."""
        with self._mutex, reported(self.path):
            if self._pending:
                self._flush_once(list(self._pending.values()))
                for digest, temporary in list(self._pending.items()):
                    self._name(digest, temporary)
                    del self._pending[digest]
                self._end_batch()
            for directory in list(self._unflushed):
                durable_file.flush(directory)
                self._unflushed.remove(directory)

    def _name(self, digest: Digest, temporary: str) -> None:
        final = self._object(digest)
        directory = os.path.dirname(final)
        if directory not in self._unflushed:
            if _make_directory(directory):
                self._unflushed.add(os.path.dirname(directory))
            self._unflushed.add(directory)
        if _exists(final):
            os.unlink(temporary)
        else:
            os.rename(temporary, final)

    def abandon(self) -> None:
        with self._mutex, reported(self.path):
            files = list(self._pending.values())
            self._pending.clear()
            self._end_batch()
            for temporary in files:
                with suppress(FileNotFoundError):
                    os.unlink(temporary)

    def _end_batch(self) -> None:
        self._pending_bytes = 0
        self._lost = None
        if self._opened_with_batch >= 0:
            os.close(self._opened_with_batch)
            self._opened_with_batch = -1

    def read_metadata(self, name: str) -> bytes | None:
        with reported(self.path):
            try:
                with open(self._metadata(name), "rb") as file:
                    return file.read()
            except FileNotFoundError:
                absence.check_no_metadata(self._metadata(name))
                return None

    def write_metadata(self, name: str, data: bytes, *, expected: bytes | None) -> None:
        """Writes a file under metadata/ atomically, as Store.write_metadata states. The creation of a file
        needs no lock; to replace a file, the caller must hold `exclusive`."""
        final = self._metadata(name)
        if expected is not None and self.read_metadata(name) != expected:
            raise self._overtaken(name)
        with reported(self.path):
            try:
                durable_file.write_durably(
                    final,
                    data,
                    mode=_FILE_MODE,
                    replace=expected is not None,
                    temporary_directory=self._temporary,
                )
            except FileExistsError:
                raise self._overtaken(name) from None

    def metadata_names(self) -> Iterator[str]:
        with reported(self.path):
            yield from os.listdir(os.path.join(self.path, "metadata"))

    def delete_metadata(self, name: str) -> None:
        with reported(self.path):
            try:
                os.unlink(self._metadata(name))
            except FileNotFoundError:
                pass

    def _overtaken(self, name: str) -> StoreConflict:
        return StoreConflict(
            f"store {self.path} has another metadata/{name} already: another publisher was first; "
            "publish again"
        )

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Holds flock(2) on `.lock`. The kernel releases the lock when the process ends, even if it is
        killed."""
        with reported(self.path):
            descriptor = os.open(
                os.path.join(self.path, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE
            )
        try:
            if not lock_within(descriptor, self._lock_wait):
                holder = os.pread(descriptor, 200, 0).decode(errors="replace")
                raise StoreConflict(
                    f"store {self.path} is held by another publisher ({holder or 'unnamed'}): "
                    "wait for it to finish, then run this again"
                )
            since = time.strftime("%FT%TZ", time.gmtime())
            holder = f"process {os.getpid()} on {socket.gethostname()} since {since}"
            with reported(self.path):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, holder.encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def _object(self, digest: Digest) -> str:
        return os.path.join(self.path, object_path(digest))

    def _metadata(self, name: str) -> str:
        if not name or "/" in name or name.startswith("."):
            raise ValueError(f"{name!r} is no metadata name")
        return os.path.join(self.path, "metadata", name)

    @cached_property
    def _temporary(self) -> str:
        directory = os.path.join(self.path, ".tmp")
        _make_directory(directory)
        return directory

    def _flush_once(self, files: list[str]) -> None:
        if self._lost:
            raise self._lost
        try:
            self._flush(files)
        except OSError as error:
            self._lost = error
            raise

    def _flush(self, files: list[str]) -> None:
        if len(files) < SYNCFS_FROM:
            for file in files:
                durable_file.flush(file)
            return
        if _libc.syncfs(self._opened_with_batch) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), self.path)


def _exists(path: str) -> bool:
    """Returns True if there is a file at `path`. Raises OSError if that cannot be known."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    return True


def _make_directory(path: str) -> bool:
    """Makes a directory that every user may read, under any umask: web servers run as another user.

    Returns True if it had to be made.
    """
    try:
        os.mkdir(path)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
        return False
    os.chmod(path, _DIRECTORY_MODE)
    return True
