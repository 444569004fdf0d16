"""Writes the status site into a directory: each file whole, the pages after what they need."""

import os

from lazyfs.core.errors import UsageError
from lazyfs.system.durable_file import write_durably

_FEEDS = ("owners", "images")
_LAST = ("index.html", "status.json")


def write_site(directory: str, files: dict[str, bytes]) -> None:
    """Writes the files that have changed, and deletes the feeds of owners and images that are gone. Raises
    UsageError."""
    try:
        for path in sorted(files, key=lambda name: name in _LAST):
            full = os.path.join(directory, path)
            os.makedirs(os.path.dirname(full), mode=0o755, exist_ok=True)
            if _content(full) != files[path]:
                write_durably(full, files[path], mode=0o644)
        for folder in _FEEDS:
            _clear(directory, folder, files)
    except OSError as error:
        raise UsageError(f"status site {directory}: {error.strerror} ({error.filename})") from None


def _clear(directory: str, folder: str, files: dict[str, bytes]) -> None:
    """Deletes the feeds below a folder that are not among the files, and the folders left empty by them."""
    for above, _, names in os.walk(os.path.join(directory, folder), topdown=False):
        for name in names:
            path = os.path.relpath(os.path.join(above, name), directory)
            if path not in files and name.endswith(".atom"):
                os.unlink(os.path.join(directory, path))
        if not os.listdir(above):
            os.rmdir(above)


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
