"""The file that an export writes: whole under its name, or not at all."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from lazyfs.core.errors import UsageError
from lazyfs.core.layers.tar_writer import END, document_header, padding
from lazyfs.images.streams import Hashed
from lazyfs.system.durable_file import flush, write_all

_BLOCK = 512


@contextmanager
def output_file(path: str, *, replace: bool, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Yields a temporary file in the directory of `path`. At the end of the block the file is renamed to
    `path`; if the block raises, the file is removed. Raises UsageError if the file cannot be written, or if
    `path` exists and `replace` is false."""
    if not replace and os.path.lexists(path):
        raise UsageError(f"{path} is there already: choose another name, or --force to replace it")
    directory, name = os.path.split(path)
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=directory or ".", prefix=f".{name}.")
        with open(descriptor, "w+b", buffering=0) as file:
            yield file
            os.fchmod(file.fileno(), mode & ~_umask())
            os.fsync(file.fileno())
        os.rename(temporary, path)
        flush(directory or ".")
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise UsageError(f"{path}: {error.strerror}") from None
        raise


class ArchiveWriter:
    """Writes a tar archive of files whose names and sizes may be known only when they are written."""

    def __init__(self, file: BinaryIO) -> None:
        """`file`: an empty unbuffered file."""
        self._file = file

    def add(self, name: str, data: bytes) -> None:
        """Writes a file of these bytes into the archive."""
        write_all(self._file.fileno(), document_header(name.encode(), len(data)) + data + padding(len(data)))

    def add_stream(self, folder: str, parts: Iterable[bytes], suffix: str = "") -> Hashed:
        """Writes a file named by its digest, `folder` before it and `suffix` after it. Returns the digest and
        size. If `parts` raises, the archive is as it was before."""
        start = self._file.tell()
        write_all(self._file.fileno(), bytes(_BLOCK))
        hashed = Hashed(parts)
        try:
            for part in hashed:
                write_all(self._file.fileno(), part)
        except BaseException:
            self._file.seek(start)
            self._file.truncate()
            raise
        write_all(self._file.fileno(), padding(hashed.size))
        end = self._file.tell()
        self._file.seek(start)
        name = f"{folder}{hashed.digest.hex()}{suffix}"
        write_all(self._file.fileno(), document_header(name.encode(), hashed.size))
        self._file.seek(end)
        return hashed

    def end(self) -> None:
        """Ends the archive."""
        write_all(self._file.fileno(), END)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
