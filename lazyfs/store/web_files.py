"""Web files: files that a store's web server serves beside objects and metadata, such as status pages."""

import os
from collections.abc import Collection, Mapping
from typing import Protocol

from lazyfs.system.durable_file import write_durably, write_unnamed


class WebFiles(Protocol):
    """The files of one folder, for one run of one writer. Paths are relative to the folder."""

    location: str
    """The folder as messages name it."""

    def update(self, files: Mapping[str, bytes], *, durable: bool = True) -> None:
        """Writes the files whose content differs, in any order. Each file is replaced atomically.

        `durable`: False if it does no harm that a power failure leaves a file empty: the next update writes
        the file again. Raises OSError or StoreError.
        """
        ...

    def below(self, folder: str) -> list[str]:
        """Returns the paths of the files below a folder inside this one. Raises OSError or StoreError."""
        ...

    def delete(self, paths: Collection[str]) -> None:
        """Deletes files, and then the folders that are empty. Raises OSError or StoreError."""
        ...


class DirectoryFiles:
    """Files in a directory. Implements WebFiles."""

    def __init__(self, directory: str) -> None:
        """If `directory` is missing, it is made when the first file is written."""
        self.location = directory

    def update(self, files: Mapping[str, bytes], *, durable: bool = True) -> None:
        for path, data in files.items():
            full = os.path.join(self.location, path)
            os.makedirs(os.path.dirname(full), mode=0o755, exist_ok=True)
            if _content(full) == data:
                continue
            if durable:
                write_durably(full, data, mode=0o644)
            else:
                os.rename(write_unnamed(os.path.dirname(full), data, mode=0o644), full)

    def below(self, folder: str) -> list[str]:
        return [
            os.path.relpath(os.path.join(above, name), self.location)
            for above, _, names in os.walk(os.path.join(self.location, folder))
            for name in names
        ]

    def delete(self, paths: Collection[str]) -> None:
        for path in paths:
            os.unlink(os.path.join(self.location, path))
            folder = os.path.dirname(path)
            while folder and not os.listdir(full := os.path.join(self.location, folder)):
                os.rmdir(full)
                folder = os.path.dirname(folder)


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
