"""Writes the status site into a directory. Each file is replaced atomically; pages are written after the
files that they refer to."""

import os
import re

from lazyfs.core.errors import UsageError
from lazyfs.system.durable_file import write_durably, write_unnamed

_FEEDS = ("owners/", "feeds/")
_OURS = re.compile(r".*\.atom|tmp\w{8}")
"""Feeds, and temporary files of runs that were killed. Other files in these folders belong to somebody
else."""
_LAST = ("index.html", "status.json")


def write_site(directory: str, files: dict[str, bytes]) -> None:
    """Writes the files that have changed, and deletes the feeds of owners and images that no longer exist.
    Raises UsageError."""
    try:
        for path in sorted(files, key=lambda name: name in _LAST):
            full = os.path.join(directory, path)
            os.makedirs(os.path.dirname(full), mode=0o755, exist_ok=True)
            if _content(full) != files[path]:
                _write(full, files[path], flushed=not path.startswith(_FEEDS))
        for folder in _FEEDS:
            _clear(directory, folder, files)
    except OSError as error:
        raise UsageError(f"status site {directory}: {error.strerror} ({error.filename})") from None


def _write(path: str, data: bytes, *, flushed: bool) -> None:
    """Replaces a file atomically. `flushed`: True to flush it to the disk. Feeds are not flushed, because
    there may be 10,000 of them; if a power failure leaves one empty, the next run writes it again."""
    if flushed:
        write_durably(path, data, mode=0o644)
    else:
        os.rename(write_unnamed(os.path.dirname(path), data, mode=0o644), path)


def _clear(directory: str, folder: str, files: dict[str, bytes]) -> None:
    """Deletes the feeds in a folder that are not among `files`, and then the folders that are empty."""
    for above, _, names in os.walk(os.path.join(directory, folder), topdown=False):
        for name in names:
            path = os.path.relpath(os.path.join(above, name), directory)
            if path not in files and _OURS.fullmatch(name):
                os.unlink(os.path.join(directory, path))
        if not os.listdir(above):
            os.rmdir(above)


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
