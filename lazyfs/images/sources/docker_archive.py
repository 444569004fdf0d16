"""`docker save` archives: a tar of layers with a manifest.json, read twice and never unpacked.

The manifest may be the last file. So the first pass over the archive finds manifest and config, and the
second pass gives the layers in the archive's order. Both formats are read: the old one (`<id>/layer.tar`,
links between equal layers) and the OCI-like one of Docker 25 (`blobs/sha256/...`). An archive from a pipe is
first copied to an unlinked temporary file.
"""

import os
import posixpath
from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

import msgspec

from lazyfs.core.digest import Digest, sha256
from lazyfs.core.errors import BadData, FormatError, UsageError
from lazyfs.core.layers import tar
from lazyfs.core.oci.manifest import MAX_CONFIG, ArchivedImage, Platform, parse_archive, parse_config
from lazyfs.core.oci.remarks import check_platform, remarks
from lazyfs.core.printable import printable
from lazyfs.images.inputs import is_input, open_input
from lazyfs.images.layer_reader import Blob, LayerLimits, expanded
from lazyfs.images.sources.default_name import default_place
from lazyfs.images.sources.image import Layer
from lazyfs.images.sources.names import Which, same_reference, split
from lazyfs.images.streams import PART, ExactReader

_SMALL_TOTAL = 64 << 20
"""The largest number of bytes that the first pass keeps of small JSON files: one of them is the config, and
only manifest.json says which."""


class _Index(NamedTuple):
    sizes: dict[str, int]
    links: dict[str, str]
    small: dict[str, bytes]


class DockerArchive:
    """One image of an archive. Implements `Image`."""

    def __init__(self, text: str, platform: Platform, *, asked: bool = True) -> None:
        """`text` is FILE[:REFERENCE] or FILE:@N; FILE may be `-`, the standard input. `asked`: True if the
        operator named the platform. Raises UsageError, BadData."""
        file, which = split(text, is_input)
        self.name = f"docker-archive:{text}"
        self._stream = open_input(file, self.name)
        try:
            self._stream.make_seekable()
            self._open(file, which)
            self.notes = (
                *check_platform(self.config, platform, asked=asked, listed=False, name=self.name),
                *remarks(self.config),
            )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the archive."""
        self._stream.close()

    def _open(self, file: str, which: Which) -> None:
        index = self._scan()
        if "manifest.json" not in index.small:
            raise FormatError(f"{self.name}: not an archive of docker save: it has no manifest.json")
        image, tag = self._choose(parse_archive(index.small["manifest.json"], self.name), which)
        self.place = default_place(tag, file)
        config_path = _followed(image.config, index.links)
        if config_path not in index.small:
            raise FormatError(
                f"{self.name}: its config {printable(image.config, 80)} is missing or over {MAX_CONFIG} bytes"
            )
        self.config_bytes = index.small[config_path]
        self.config_digest = sha256(self.config_bytes)
        self.config = parse_config(self.config_bytes, self.name, len(image.layers))
        self.manifest = msgspec.json.format(msgspec.json.encode(image), indent=2)
        self._paths = [_followed(path, index.links) for path in image.layers]
        layers = []
        stated: dict[str, Digest] = {}
        for number, (path, diff_id) in enumerate(zip(self._paths, self.config.diff_ids, strict=True)):
            name = f"{self.name}: layer {number} ({printable(path, 100)})"
            if path not in index.sizes:
                raise FormatError(f"{name} is missing")
            other = stated.setdefault(path, diff_id)
            if other != diff_id:
                raise FormatError(
                    f"{name} cannot have diff_id sha256:{diff_id.hex()}: a layer below is the same file with "
                    f"diff_id sha256:{other.hex()}"
                )
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
        for number in numbers.values():
            raise FormatError(f"{self.layers[number].blob.name} is no longer there: did the archive change?")

    def _scan(self) -> _Index:
        index = _Index({}, {}, {})
        held = 0
        for member, reader in self._members():
            path = _clean(member.name)
            if member.kind == tar.FILE:
                index.sizes[path] = member.size
                # Configs are named after their digest or lie among the blobs, which are JSON too.
                if path == "manifest.json" or (member.size <= MAX_CONFIG and held < _SMALL_TOTAL):
                    if member.size > MAX_CONFIG:
                        raise FormatError(
                            f"{self.name}: manifest.json of {member.size} bytes, over {MAX_CONFIG}"
                        )
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
        self._stream.rewind()
        try:
            plain = expanded(self._stream.parts(), LayerLimits(), lambda: self._stream.size or 0)
            reader = tar.TarReader(ExactReader(plain).read, need_end=True)
            while (member := reader.next()) is not None:
                yield member, reader
        except BadData as error:
            if str(error).startswith("docker-archive:"):
                raise
            raise type(error)(f"{self.name}: {error}") from None

    def _choose(self, images: list[ArchivedImage], which: Which) -> tuple[ArchivedImage, str | None]:
        """Returns the chosen image and one tag of it: the one by which it was chosen; if it was not chosen by
        a tag, its first one; None if it has no tag. Raises UsageError."""
        if which.digest is not None:
            raise UsageError(
                f"{self.name}: an archive names its images by reference or number, not by digest"
            )
        if which.number is not None:
            if which.number >= len(images):
                raise UsageError(f"{self.name}: the archive has {len(images)} images, counted from 0")
            return images[which.number], next(iter(images[which.number].repo_tags or []), None)
        if which.name is None and len(images) == 1:
            return images[0], next(iter(images[0].repo_tags or []), None)
        for image in images if which.name is not None else []:
            for tag in image.repo_tags or []:
                if same_reference(tag, which.name or ""):
                    return image, tag
        there = sorted(tag for image in images for tag in image.repo_tags or [])
        wish = (
            f"no image {which.name}"
            if which.name
            else "name one of its images (docker-archive:FILE:REFERENCE)"
        )
        shown = printable(", ".join(there)) or "none with a tag"
        raise UsageError(
            f"{self.name}: {wish}; the archive has: {shown} (or :@N, N from 0 to {len(images) - 1})"
        )


def _followed(path: str, links: dict[str, str]) -> str:
    """Returns the path in the archive that a path of manifest.json leads to through links."""
    clean = _clean(os.fsencode(path))
    return links.get(clean, clean)


def _clean(name: bytes) -> str:
    return posixpath.normpath(os.fsdecode(name)).lstrip("/")


def _data(reader: tar.TarReader) -> Iterator[bytes]:
    while part := reader.read(PART):
        yield part
