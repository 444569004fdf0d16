"""The file that gets the result of a start.

It is chosen before the program runs and written after it has ended. A program that can write to the directory
could have put a link to any file of the caller's under the name meanwhile, or a link in place of a directory
on the way. So the directory is opened beforehand, and the name in it is replaced and never followed.
"""

import errno
import fcntl
import os
import re
import stat
import time
from contextlib import suppress
from typing import Final, Protocol

from lazyfs.core.errors import UsageError
from lazyfs.system.durable_file import write_all

READER_SECONDS: Final = 60.0
"""Timeout in seconds for a reader of a named pipe."""
_LOOK: Final = 0.05
"""Seconds between two looks for a reader."""
_OWN: Final = re.compile(r"/(?:dev|proc/self)/fd/([0-9]{1,9})")
_STREAMS: Final = {"/dev/stdout": 1, "/dev/stderr": 2}
_CLOSED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY})
"""Errors of a directory that takes no new file, although a file in it may be written to. EBUSY: the file is a
mount point."""


class ResultFile:
    """A file, pipe, terminal or open descriptor for one result."""

    def __init__(self, path: str, meant_by: str) -> None:
        """`meant_by`: the option and value that name the path, for errors. Raises UsageError if the path
        cannot be written to."""
        self._meant_by = meant_by
        try:
            self._place = _place(path)
        except OSError as error:
            raise self._problem(error) from None

    def write(self, text: str) -> None:
        """Writes the text and a line end. Raises UsageError."""
        try:
            self._place.write(f"{text}\n".encode())
        except OSError as error:
            raise self._problem(error) from None

    def _problem(self, error: OSError) -> UsageError:
        return UsageError(f"{self._meant_by}: {error.strerror}")


class _Place(Protocol):
    def write(self, data: bytes) -> None:
        """Writes all bytes. Raises OSError."""
        ...


def _place(path: str) -> _Place:
    """Returns the place that a path names. Raises OSError if it cannot be written to."""
    own = _OWN.fullmatch(path)
    if own is not None or path in _STREAMS:
        return _Descriptor(int(own[1]) if own else _STREAMS[path])
    directory, name = os.path.split(path)
    number = os.open(directory or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mode = 0
    with suppress(FileNotFoundError):
        mode = os.stat(name, dir_fd=number, follow_symlinks=False).st_mode if name else stat.S_IFDIR
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        return _Special(number, name)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if mode and not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise OSError(errno.EINVAL, "is neither a file nor a pipe")
    return _NamedFile(number, name)


class _NamedFile:
    """A name in a directory. The file is whole under its name, or not there."""

    def __init__(self, directory: int, name: str) -> None:
        """`directory`: an open descriptor. Tries to make a file there, and raises OSError if that fails."""
        self._directory = directory
        self._name = name
        try:
            number, temporary = self._temporary()
            os.close(number)
            os.unlink(temporary, dir_fd=directory)
            if self._is_anothers():
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        except OSError as error:
            if error.errno not in _CLOSED or not self._is_writable():
                raise

    def write(self, data: bytes) -> None:
        try:
            self._replace(data)
        except OSError as error:
            if error.errno not in _CLOSED:
                raise
            with open(self._open(os.O_TRUNC), "wb", buffering=0) as file:
                write_all(file.fileno(), data)

    def _replace(self, data: bytes) -> None:
        number, temporary = self._temporary()
        try:
            with open(number, "wb", buffering=0):
                write_all(number, data)
            os.rename(temporary, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=self._directory)
            raise

    def _temporary(self) -> tuple[int, str]:
        """Makes a file under a name that nobody can know; returns (descriptor, name)."""
        name = f".lazyfs-result-{os.urandom(8).hex()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.open(name, flags, 0o666, dir_fd=self._directory), name

    def _is_anothers(self) -> bool:
        """Returns True if another user has the name in a sticky directory (/tmp), and so keeps it."""
        above = os.fstat(self._directory)
        try:
            owner = os.stat(self._name, dir_fd=self._directory, follow_symlinks=False).st_uid
        except FileNotFoundError:
            return False
        return bool(above.st_mode & stat.S_ISVTX) and os.geteuid() not in (0, owner, above.st_uid)

    def _is_writable(self) -> bool:
        try:
            os.close(self._open())
        except OSError:
            return False
        return True

    def _open(self, more: int = 0) -> int:
        """Opens the file that has the name, if it is a file and no link. Raises OSError."""
        flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | more
        return os.open(self._name, flags, dir_fd=self._directory)


class _Special:
    """A named pipe or terminal that was there before the start. Opened when it is written to, since a pipe
    waits for its reader; but held until then, so that the program can put nothing else in its place."""

    def __init__(self, directory: int, name: str) -> None:
        held = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        self._path = f"/proc/self/fd/{held}"
        if not os.access(self._path, os.W_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def write(self, data: bytes) -> None:
        number = self._opened()
        with open(number, "wb", buffering=0):
            os.set_blocking(number, True)
            write_all(number, data)

    def _opened(self) -> int:
        """Returns a descriptor, as soon as a pipe has a reader. Raises OSError."""
        end = time.monotonic() + READER_SECONDS
        while True:
            try:
                return os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                if time.monotonic() > end:
                    raise OSError(errno.ENXIO, f"nobody has read it for {READER_SECONDS:g} s") from None
                time.sleep(_LOOK)


class _Descriptor:
    """A descriptor that the caller has opened. Opening its name anew would truncate a file, and write over
    what the program has written to it."""

    def __init__(self, number: int) -> None:
        self._number = os.dup(number)
        if not fcntl.fcntl(self._number, fcntl.F_GETFL) & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EBADF, "is not open for writing")

    def write(self, data: bytes) -> None:
        write_all(self._number, data)
