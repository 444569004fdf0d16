"""A store in a directory of this machine: no server, no proxy."""

import os
from collections.abc import Callable

from lazyfs.core.errors import NotFound, TransportError, UsageError
from lazyfs.transport.fetcher import Request, never_cancelled

_STEP = 1 << 20


class LocalFetcher:
    """A Fetcher that reads the files of a store directory."""

    def __init__(self, directory: str) -> None:
        """Raises UsageError if there is no such directory."""
        if not os.path.isdir(directory):
            raise UsageError(f"store {directory}: no such directory")
        self._directory = os.path.abspath(directory)

    def fetch(self, request: Request, check_cancelled: Callable[[], None] = never_cancelled) -> bytes:
        """See Fetcher. A failing disk or a file over `max_bytes` is a TransportError that names the file."""
        name = os.path.join(self._directory, request.path)
        if not os.path.abspath(name).startswith(self._directory + os.sep):
            raise TransportError(f"{request.path}: outside the store {self._directory}")
        try:
            with open(name, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > request.max_bytes:
                    raise TransportError(f"{name}: {size} bytes, more than the {request.max_bytes} expected")
                parts: list[bytes] = []
                while part := file.read(_STEP):
                    check_cancelled()
                    parts.append(part)
        except FileNotFoundError:
            raise NotFound(f"{name}: no such file") from None
        except OSError as error:
            raise TransportError(f"{name}: {error.strerror}") from error
        return request.accept(b"".join(parts))

    def close(self) -> None:
        """Nothing is held between calls."""
