"""Writes the status site into a directory: each file in one step, the pages after the files that they
need."""

import os

from lazyfs.core.errors import UsageError
from lazyfs.system.durable_file import write_durably

_LAST = ("index.html", "status.json")


def write_site(directory: str, files: dict[str, bytes]) -> None:
    """Writes the files that have changed, and deletes the feeds of owners that are gone. Raises
    UsageError."""
    try:
        for path in sorted(files, key=lambda name: name in _LAST):
            full = os.path.join(directory, path)
            os.makedirs(os.path.dirname(full), mode=0o755, exist_ok=True)
            if _content(full) != files[path]:
                write_durably(full, files[path], mode=0o644)
        for name in os.listdir(os.path.join(directory, "owners")) if _has_owners(directory) else ():
            if f"owners/{name}" not in files and name.endswith(".atom"):
                os.unlink(os.path.join(directory, "owners", name))
    except OSError as error:
        raise UsageError(f"status site {directory}: {error.strerror} ({error.filename})") from None


def _has_owners(directory: str) -> bool:
    return os.path.isdir(os.path.join(directory, "owners"))


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
