"""OCI image layouts that are written: into a directory, or into a tar archive."""

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Protocol

import msgspec

from lazyfs.core.errors import UsageError
from lazyfs.core.oci import json_text
from lazyfs.core.oci.manifest import CONTAINERD_NAME, MAX_MANIFEST, REF_NAME
from lazyfs.images.exports.output_file import ArchiveWriter
from lazyfs.images.inputs import open_file
from lazyfs.images.streams import ExactReader, Hashed, parts_of
from lazyfs.system.durable_file import flush, write_all, write_durably

_BLOBS = "blobs/sha256"
_VERSION = b'{"imageLayoutVersion":"1.0.0"}'


class LayoutWriter(Protocol):
    """Writes the parts of one image into a layout."""

    def blob(self, parts: Iterable[bytes]) -> Hashed:
        """Writes a blob; returns its digest and size."""
        ...

    def finish(self, manifest: dict[str, Any]) -> None:
        """Writes the layout's index, in which `manifest`, the descriptor of the image's manifest, is
        entered."""
        ...


class LayoutArchive:
    """Writes a layout as a tar archive."""

    def __init__(self, archive: ArchiveWriter) -> None:
        self._archive = archive

    def blob(self, parts: Iterable[bytes]) -> Hashed:
        return self._archive.add_stream(f"{_BLOBS}/", parts)

    def finish(self, manifest: dict[str, Any]) -> None:
        self._archive.add("oci-layout", _VERSION)
        self._archive.add("index.json", _index([manifest]))
        self._archive.end()


class LayoutDirectory:
    """Writes into a directory: a new or empty one, or a layout, whose other images stay."""

    def __init__(self, directory: str) -> None:
        """Makes the directory if it is missing. Raises UsageError for one with other files."""
        self._directory = directory
        self._blobs = os.path.join(directory, _BLOBS)
        try:
            os.makedirs(directory, exist_ok=True)
            self._others = self._read_index() if os.listdir(directory) else []
            os.makedirs(self._blobs, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{directory}: {error.strerror}") from None

    def blob(self, parts: Iterable[bytes]) -> Hashed:
        hashed = Hashed(parts)
        descriptor, temporary = tempfile.mkstemp(dir=self._blobs, prefix=".")
        try:
            with open(descriptor, "wb", buffering=0):
                for part in hashed:
                    write_all(descriptor, part)
                os.fchmod(descriptor, 0o644)
                os.fsync(descriptor)
            os.rename(temporary, os.path.join(self._blobs, hashed.digest.hex()))
        except BaseException as error:
            with suppress(OSError):
                os.unlink(temporary)
            if isinstance(error, OSError):
                raise UsageError(f"{self._blobs}: {error.strerror}") from None
            raise
        return hashed

    def finish(self, manifest: dict[str, Any]) -> None:
        try:
            flush(self._blobs)
            write_durably(os.path.join(self._directory, "oci-layout"), _VERSION, mode=0o644)
            others = [one for one in self._others if _name(one) != _name(manifest)]
            write_durably(
                os.path.join(self._directory, "index.json"), _index([*others, manifest]), mode=0o644
            )
        except OSError as error:
            raise UsageError(f"{self._directory}: {error.strerror}") from None

    def _read_index(self) -> list[Any]:
        """Returns the descriptors in the index of a layout."""
        path = os.path.join(self._directory, "index.json")
        if not os.path.exists(path):
            raise UsageError(f"{self._directory} has files, and is no OCI image layout: choose another")
        with open_file(path, path) as file:
            data = ExactReader(parts_of(file)).read(MAX_MANIFEST)
        document = json_text.decode(data, path, "an index")
        found = document.get("manifests") if isinstance(document, dict) else None
        return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def named(manifest: dict[str, Any], reference: str, tag: str) -> dict[str, Any]:
    """Returns a descriptor with the names by which tools find the image in a layout. `manifest`: the
    descriptor of the manifest, without names. `reference`: the image reference."""
    return manifest | {"annotations": {CONTAINERD_NAME: reference, REF_NAME: tag}}


def _name(manifest: dict[str, Any]) -> tuple[Any, Any]:
    annotations = manifest.get("annotations") or {}
    return annotations.get(CONTAINERD_NAME), annotations.get(REF_NAME)


def _index(manifests: list[Any]) -> bytes:
    return msgspec.json.encode({"schemaVersion": 2, "manifests": manifests})
