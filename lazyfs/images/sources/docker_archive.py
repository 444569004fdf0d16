"""`docker save` archives: a tar of layers with a manifest.json, read twice and never unpacked.

The manifest may be the last file, so the first pass finds it and the config; the second hands out the layers
in the order they lie in the archive. Both formats are read: the old one (`<id>/layer.tar`, links between
equal layers) and the OCI-like one of Docker 25 (`blobs/sha256/...`).
"""

import os
import posixpath
from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

import msgspec

from lazyfs.core.digest import sha256
from lazyfs.core.errors import BadData, FormatError, UsageError
from lazyfs.core.layers import tar
from lazyfs.core.oci.manifest import MAX_CONFIG, ArchivedImage, parse_archive, parse_config
from lazyfs.images.layer_reader import Blob
from lazyfs.images.sources.default_name import default_place
from lazyfs.images.sources.image import Layer
from lazyfs.images.streams import PART, ExactReader, decompressed, parts_of

_SMALL_TOTAL = 64 << 20
"""Bytes of candidates for the config held during the first pass."""


class _Index(NamedTuple):
    sizes: dict[str, int]
    links: dict[str, str]
    small: dict[str, bytes]


class DockerArchive:
    """One image of an archive. See Image."""

    def __init__(self, text: str) -> None:
        """`text` is FILE, or FILE:REFERENCE to choose among several images. Raises UsageError, BadData."""
        self._file, wanted = text, ""
        if not os.path.exists(text):
            head, colon, _ = text.partition(":")
            if colon:
                self._file, wanted = head, text[len(head) + 1 :]
        self.name = f"docker-archive:{text}"
        index = self._scan()
        if "manifest.json" not in index.small:
            raise FormatError(f"{self.name}: not an archive of docker save: it has no manifest.json")
        image = self._choose(parse_archive(index.small["manifest.json"], self.name), wanted)
        tags = image.repo_tags or []
        self.place = default_place(wanted if wanted in tags else tags[0] if tags else None, self._file)
        config_path = index.links.get(image.config, image.config)
        if config_path not in index.small:
            raise FormatError(f"{self.name}: its config {image.config} is missing or over {MAX_CONFIG} bytes")
        self.config_bytes = index.small[config_path]
        self.config_digest = sha256(self.config_bytes)
        self.config = parse_config(self.config_bytes, self.name, len(image.layers))
        self.manifest = msgspec.json.format(msgspec.json.encode(image), indent=2)
        self._paths = [index.links.get(path, path) for path in image.layers]
        layers = []
        for number, (path, diff_id) in enumerate(zip(self._paths, self.config.diff_ids, strict=True)):
            if path not in index.sizes:
                raise FormatError(f"{self.name}: layer {number} ({path}) is missing")
            name = f"{self.name}: layer {number} ({path})"
            layers.append(Layer(Blob(name, index.sizes[path], None, diff_id), diff_id))
        self.layers = tuple(layers)

    def read(self, wanted: Sequence[int]) -> Generator[tuple[int, Iterator[bytes]], None, None]:
        numbers: dict[str, int] = {}
        for number in wanted:
            numbers.setdefault(self._paths[number], number)
        for member, reader in self._members():
            number = numbers.pop(_clean(member.name), -1)
            if number >= 0:
                yield number, _data(reader)
            if not numbers:
                return

    def _scan(self) -> _Index:
        index = _Index({}, {}, {})
        held = 0
        for member, reader in self._members():
            path = _clean(member.name)
            if member.kind == tar.FILE:
                index.sizes[path] = member.size
                # Configs are named after their digest or lie among the blobs, which are JSON too.
                if member.size <= MAX_CONFIG and held < _SMALL_TOTAL:
                    first = reader.read(1)
                    if first == b"{" or path == "manifest.json":
                        index.small[path] = first + reader.read(member.size)
                        held += member.size
            elif member.kind == tar.SYMLINK:
                target = posixpath.join(posixpath.dirname(path), os.fsdecode(member.target))
                index.links[path] = posixpath.normpath(target)
            elif member.kind == tar.HARDLINK:
                index.links[path] = _clean(member.target)
        return index

    def _members(self) -> Iterator[tuple[tar.Member, tar.TarReader]]:
        try:
            file = open(self._file, "rb", buffering=0)  # noqa: SIM115 - closed below
        except OSError as error:
            raise UsageError(f"{self.name}: {self._file}: {error.strerror}") from None
        with file:
            try:
                reader = tar.TarReader(ExactReader(decompressed(parts_of(file))).read, need_end=True)
                while (member := reader.next()) is not None:
                    yield member, reader
            except BadData as error:
                if str(error).startswith("docker-archive:"):
                    raise
                raise type(error)(f"{self.name}: {error}") from None

    def _choose(self, images: list[ArchivedImage], wanted: str) -> ArchivedImage:
        there = sorted(tag for image in images for tag in image.repo_tags or [])
        if wanted:
            for image in images:
                if wanted in (image.repo_tags or []):
                    return image
        elif len(images) == 1:
            return images[0]
        wish = f"no image {wanted}" if wanted else "name one of its images (docker-archive:FILE:REFERENCE)"
        raise UsageError(f"{self.name}: {wish}; the archive has: {', '.join(there) or 'none with a tag'}")


def _clean(name: bytes) -> str:
    return posixpath.normpath(os.fsdecode(name))


def _data(reader: tar.TarReader) -> Iterator[bytes]:
    while part := reader.read(PART):
        yield part
