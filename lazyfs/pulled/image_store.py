"""A bounded directory of pulled images, shared by the jobs of one user on one node.

    names/HASH       the image that an image reference meant when it was pulled
    names/HASH.lock  held by the process that pulls the image of this reference
    images/KEY/      one whole image: `root` or `image.sif`, and its manifest and config
    images/KEY.lock  held by each job that uses the image; its mtime is the time of the last use
    partial/N/       an image that is being pulled, or was when its process was killed
    lock             held while room is made

Only the user may enter the directory, so that nobody reads another user's private images. Other users may
enter root's directory, and in it the images that were pulled without an account. The directory holds at most
`limit` bytes: before bytes are written, the least recently used images that are not in use are removed.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from lazyfs.core.byte_size import shown_size
from lazyfs.core.errors import LazyfsError, UsageError
from lazyfs.core.shown_address import shown_source
from lazyfs.system.file_lock import lock_within
from lazyfs.system.trusted_files import make_private_directory
from lazyfs.system.user_namespace import is_root_of_node

PULL_SECONDS = 3600.0
"""The longest time, in seconds, to wait while another process pulls the same image."""
_MOMENT = 60.0
"""The longest time, in seconds, to wait while another process makes room or adds an image."""
_STEP = 16 << 20
"""Bytes of room that a pull reserves at a time."""


@dataclass(frozen=True, slots=True)
class KeptImage:
    """An image of the store that this process uses: it is not removed from the store until the process
    ends."""

    directory: str
    lock: int
    """The descriptor of the image's lock file; closing it releases the image."""


class NoRoom(UsageError):
    """The new image and the images in use together exceed the store's limit."""


class PartialImage:
    """An image that is being written into the store."""

    def __init__(self, directory: str, make_room: Callable[[str, int], None]) -> None:
        self.directory = directory
        self._make_room = make_room
        self._written = 0
        self._reserved = 0

    def write(self, count: int) -> None:
        """Reserves room for `count` bytes that are about to be written. Raises NoRoom."""
        self._written += count
        while self._written > self._reserved:
            self._reserved += max(_STEP, self._written - self._reserved)
            self._make_room(self.directory, self._reserved)

    def settle(self) -> None:
        """Releases the room that was reserved and not used."""
        _write_size(self.directory, self._written)


class ImageStore:
    """The store of pulled images in one directory."""

    def __init__(self, directory: str, limit: int) -> None:
        """Makes the directory if it is missing. Raises UsageError if others than this user can write to
        it."""
        self._directory = directory
        self._limit = limit
        try:
            make_private_directory(directory)
            mode = 0o711 if is_root_of_node() else 0o700
            os.chmod(directory, mode)
            for name in ("names", "images", "partial"):
                os.makedirs(os.path.join(directory, name), mode, exist_ok=True)
        except OSError as error:
            raise UsageError(f"image store {directory}: {error.strerror}") from None

    @contextmanager
    def one_pulls(self, reference: str) -> Iterator[None]:
        """Holds the lock of an image reference until the end of the `with` block, so that only one process
        pulls its image. Raises LazyfsError if another process does not release the lock within
        PULL_SECONDS."""
        with self._opened(f"{self._name(reference)}.lock") as number:
            if not lock_within(number, PULL_SECONDS):
                raise LazyfsError(
                    f"{shown_source(reference)}: another process has been pulling it for {PULL_SECONDS:g} s"
                )
            yield

    def named(self, reference: str) -> KeptImage | None:
        """Returns the image that an image reference meant when it was pulled; None if the store no longer has
        it."""
        try:
            with open(self._name(reference), "rb") as file:
                key = str(json.loads(file.read(1 << 12))["key"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return self.held(key)

    def name(self, reference: str, key: str) -> None:
        """Remembers that an image reference means the image with this key. An account or signature in the
        reference is not written down; only the hash of the whole is."""
        path = self._name(reference)
        with open(f"{path}.{os.getpid()}", "w") as file:
            shown = shown_source(reference)
            json.dump({"reference": shown, "key": key, "time": int(time.time())}, file)
        os.rename(file.name, path)

    def held(self, key: str) -> KeptImage | None:
        """Returns the image with this key, which is in use by this process from now on; None if the store
        does not have it."""
        directory = os.path.join(self._directory, "images", key)
        if not os.path.isdir(directory):
            return None
        while True:
            number = os.open(f"{directory}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(number, fcntl.LOCK_SH)
            if os.fstat(number).st_nlink:  # not removed between the two calls
                break
            os.close(number)
        if not os.path.isdir(directory):
            os.close(number)
            return None
        os.utime(number)
        return KeptImage(directory, number)

    def add(self, fill: Callable[[PartialImage], str], *, private: Callable[[], bool]) -> KeptImage:
        """Makes a directory and calls `fill`, which writes an image into it and returns the image's key. Then
        keeps the image under this key, and returns it. `private`: called after `fill`; returns True if other
        users may not enter the image. Raises as `fill`; NoRoom, LazyfsError."""
        partial = tempfile.mkdtemp(dir=os.path.join(self._directory, "partial"))
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, partial, ignore_errors=True)
            own = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, own)
            fcntl.flock(own, fcntl.LOCK_EX)
            image = PartialImage(partial, self._make_room)
            try:
                key = fill(image)
                image.settle()
                os.chmod(partial, 0o700 if private() else 0o755)
                with self._alone():
                    _rename_unless_there(partial, os.path.join(self._directory, "images", key))
            except OSError as error:
                raise LazyfsError(f"image store {self._directory}: {error.strerror}") from None
        found = self.held(key)
        if found is None:
            raise LazyfsError(f"image store {self._directory}: {key} was removed as soon as it was there")
        return found

    def _make_room(self, partial: str, wanted: int) -> None:
        """Removes images until the store can hold `wanted` bytes of the image that is written in the
        directory `partial`. Raises NoRoom."""
        with self._alone():
            _write_size(partial, wanted)
            self._remove_dead()
            images = self._by_last_use()
            total = sum(_size(path) for path in [*images, *self._partials()])
            for path in images:
                if total <= self._limit:
                    return
                size = _size(path)
                if self._removed(path):
                    total -= size
            if total > self._limit:
                raise NoRoom(
                    f"image store {self._directory}: its limit of {shown_size(self._limit)} is too small for "
                    f"the image and those in use; raise image_limit"
                )

    def _by_last_use(self) -> list[str]:
        """Returns the directories of the images, the least recently used first."""
        top = os.path.join(self._directory, "images")
        paths = [os.path.join(top, name) for name in os.listdir(top) if not name.endswith(".lock")]
        return sorted(paths, key=_last_use)

    def _partials(self) -> list[str]:
        top = os.path.join(self._directory, "partial")
        return [os.path.join(top, name) for name in os.listdir(top)]

    def _remove_dead(self) -> None:
        """Removes the partial images that killed processes have left."""
        for path in self._partials():
            with suppress(OSError):
                number = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
                finally:
                    os.close(number)

    def _removed(self, path: str) -> bool:
        """Removes an image; returns False, and leaves it, if a process uses it."""
        number = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            gone = tempfile.mkdtemp(dir=os.path.join(self._directory, "partial"))
            os.rename(path, gone)
            os.unlink(f"{path}.lock")
            shutil.rmtree(gone, ignore_errors=True)
        except BlockingIOError:
            return False
        finally:
            os.close(number)
        return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._opened(os.path.join(self._directory, "lock")) as number:
            if not lock_within(number, _MOMENT):
                raise LazyfsError(f"image store {self._directory}: it has been locked for {_MOMENT:g} s")
            yield

    @contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield number
        finally:
            os.close(number)

    def _name(self, reference: str) -> str:
        hashed = hashlib.sha256(reference.encode(errors="surrogateescape")).hexdigest()[:32]
        return os.path.join(self._directory, "names", hashed)


def _rename_unless_there(source: str, target: str) -> None:
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise


def _last_use(path: str) -> float:
    with suppress(OSError):
        return os.stat(f"{path}.lock").st_mtime
    return 0


def _size(path: str) -> int:
    with suppress(OSError, ValueError), open(os.path.join(path, "size")) as file:
        return int(file.read(32))
    return 0


def _write_size(path: str, size: int) -> None:
    with open(os.path.join(path, "size"), "w") as file:
        file.write(str(size))
