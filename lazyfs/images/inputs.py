"""Files that are read from the beginning to the end, including pipes and the standard input."""

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from lazyfs.core.errors import FormatError, UsageError
from lazyfs.images.streams import PART, parts_of
from lazyfs.images.temporary_file import append, open_temporary

STDIN = "-"
"""The name of the standard input, as for tar and docker load."""


def is_input(path: str) -> bool:
    """Returns True if a readable file or pipe has this name."""
    return path == STDIN or (os.path.exists(path) and not os.path.isdir(path))


class Input:
    """An open file, pipe or socket."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self.name = name
        status = os.fstat(file.fileno())
        self.size: int | None = status.st_size if stat.S_ISREG(status.st_mode) else None
        """Size in bytes; None for a pipe or socket, whose size is not known before its end."""
        if stat.S_ISREG(status.st_mode):
            self._start = os.lseek(file.fileno(), 0, os.SEEK_CUR)  # a descriptor may stand in mid-file
            self.size = status.st_size - self._start
        else:
            self._start = 0

    def close(self) -> None:
        self._file.close()

    def fileno(self) -> int:
        """Returns the file's descriptor."""
        return self._file.fileno()

    def parts(self) -> Iterator[bytes]:
        """Yields the bytes from here on. Raises UsageError if reading fails."""
        try:
            yield from parts_of(self._file)
        except OSError as error:
            raise UsageError(f"{self.name}: {error.strerror}") from None

    def make_seekable(self) -> None:
        """Copies a pipe's bytes to an unlinked file in TMPDIR. Raises UsageError."""
        if self.size is not None:
            return
        copy = temporary_input(self.parts(), self.name)
        self._file.close()
        self._file, self._start, self.size = copy._file, 0, copy.size

    def rewind(self) -> None:
        """Returns to the beginning of a seekable file."""
        self._file.seek(self._start)

    def slice(self, start: int, size: int) -> Iterator[bytes]:
        """Yields the `size` bytes from `start` on of a seekable file, in parts. Raises UsageError if reading
        fails, FormatError if the file is shorter."""
        end = start + size
        while start < end:
            try:
                part = os.pread(self._file.fileno(), min(PART, end - start), self._start + start)
            except OSError as error:
                raise UsageError(f"{self.name}: {error.strerror}") from None
            if not part:
                raise FormatError(f"{self.name}: ends at {start}, before {end}: is it truncated?")
            start += len(part)
            yield part


def temporary_input(parts: Iterable[bytes], name: str) -> Input:
    """Writes parts to an unlinked file in TMPDIR; returns it, to be read from its beginning. Raises
    UsageError if there is no room."""
    copy = open_temporary(name)
    try:
        for part in parts:
            append(copy, part, name)
        copy.seek(0)
        return Input(copy, name)
    except BaseException:
        copy.close()
        raise


def open_file(path: str, name: str) -> BinaryIO:
    """Opens a regular file. The directory may be a stranger's, so this does not wait for a pipe that lies
    there.

    `name`: the file's name in errors. Raises UsageError if it cannot be opened or is not a regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"{name}: {path}: {reason}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError(f"{name}: {path} is no regular file")
    return open(descriptor, "rb", buffering=0)


def open_input(path: str, name: str) -> Input:
    """Opens a file or pipe; `-` is the standard input. `name`: its name in errors. Raises UsageError."""
    try:
        if path in (STDIN, "/dev/stdin"):  # opening it anew fails for a socket
            file = open(os.dup(sys.stdin.fileno() if sys.stdin else 0), "rb", buffering=0)  # noqa: SIM115
        else:
            file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by Input
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"{name}: {path}: {reason}") from None
    mode = os.fstat(file.fileno()).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        file.close()
        raise UsageError(f"{name}: {path} is neither a file nor a pipe")
    return Input(file, name)
