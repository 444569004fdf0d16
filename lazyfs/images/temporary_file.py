"""Unlinked files in TMPDIR, for copies of what can be read only once. Their errors name TMPDIR."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from lazyfs.core.errors import UsageError
from lazyfs.system.durable_file import write_all


def open_temporary(name: str) -> BinaryIO:
    """Opens a new file. `name`: the name in errors of what it is a copy of. Raises UsageError."""
    with _naming_tmpdir(name):
        return tempfile.TemporaryFile(prefix="lazyfs-", buffering=0)


def append(file: BinaryIO, data: bytes, name: str) -> None:
    """Writes all bytes at the file's position. Raises UsageError if there is no room."""
    with _naming_tmpdir(name):
        write_all(file.fileno(), data)


def read_at(file: BinaryIO, position: int, count: int, name: str) -> bytes:
    """Returns up to `count` bytes from a position on, and leaves the file's own position as it is. Raises
    UsageError if there are none."""
    with _naming_tmpdir(name):
        data = os.pread(file.fileno(), count, position)
        if not data:
            raise OSError(0, f"ends at byte {position}")
        return data


@contextmanager
def _naming_tmpdir(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = f" in {tempfile.tempdir}" if tempfile.tempdir else ""  # None: no directory can be used
        raise UsageError(
            f"{name}: {error.strerror}, keeping a copy{place}: choose another place with TMPDIR"
        ) from None
