"""A store in a directory of this machine: no server, no proxy."""

import os
import stat
from collections.abc import Callable
from typing import BinaryIO

from lazyfs.core.errors import NotFound, TransportError, UsageError
from lazyfs.transport.fetcher import Request, never_cancelled, still_wanted

_STEP = 1 << 20


class LocalFetcher:
    """A Fetcher that reads the files of a store directory."""

    def __init__(self, directory: str) -> None:
        """Raises UsageError if there is no such directory."""
        if not os.path.isdir(directory):
            raise UsageError(f"store {directory}: no such directory")
        self._directory = os.path.abspath(directory)

    def fetch(self, request: Request, check_cancelled: Callable[[], None] = never_cancelled) -> bytes:
        """Reads the file and returns the result of `request.accept`. Raises as Fetcher.fetch.

        A failing disk, a file over `max_bytes` and a name that is not a regular file (reading a pipe would
        wait, a device never ends) raise a TransportError that names the file.
        """
        name = os.path.join(self._directory, request.path)
        if not os.path.abspath(name).startswith(self._directory + os.sep):
            raise TransportError(f"{request.path}: outside the store {self._directory}")
        still = still_wanted(name, request.deadline, check_cancelled)
        try:
            with open(os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb", 0) as file:
                data = _read(file, name, request.max_bytes, still)
        except FileNotFoundError:
            raise NotFound(f"{name}: no such file") from None
        except (OSError, ValueError) as error:  # ValueError: a name with NUL
            raise TransportError(f"{name}: {getattr(error, 'strerror', None) or error}") from error
        return request.accept(data)

    def close(self) -> None:
        """Does nothing: no resource is held between calls."""


def _read(file: BinaryIO, name: str, most: int, check: Callable[[], None]) -> bytes:
    """Returns the whole file, which may grow during the read. Raises TransportError over `most` bytes."""
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise TransportError(f"{name}: not a regular file")
    if status.st_size > most:
        raise TransportError(f"{name}: {status.st_size} bytes, more than the {most} expected")
    parts: list[bytes] = []
    left = most
    while part := file.read(_STEP):
        left -= len(part)
        if left < 0:
            raise TransportError(f"{name}: more than the {most} bytes expected")
        parts.append(part)
        check()
    return parts[0] if len(parts) == 1 else b"".join(parts)
