"""OCI image layouts: a directory with `oci-layout`, `index.json` and blobs (image-spec, image-layout.md)."""

import os
from collections.abc import Generator, Iterator, Sequence

from lazyfs.core.digest import sha256
from lazyfs.core.errors import DigestMismatch, FormatError, UsageError
from lazyfs.core.oci.manifest import (
    MAX_CONFIG,
    MAX_MANIFEST,
    REF_NAME,
    Descriptor,
    Index,
    Platform,
    parse,
    parse_config,
)
from lazyfs.core.oci.platform import choose
from lazyfs.images.sources.default_name import default_place
from lazyfs.images.sources.image import layers_of
from lazyfs.images.streams import parts_of


class OciLayout:
    """One image of a layout directory. See Image."""

    def __init__(self, text: str, platform: Platform) -> None:
        """`text` is DIR[:TAG]. Raises UsageError for a missing directory or tag, BadData for a broken one."""
        directory, tag = text, None
        if not os.path.isdir(text):
            directory, _, tag = text.rpartition(":")
        if not directory or not os.path.isfile(os.path.join(directory, "index.json")):
            raise UsageError(f"oci:{text}: {directory or text} is not an OCI image layout (no index.json)")
        self._directory = directory
        self.name = f"oci:{text}"
        entry = self._named(tag)
        self.place = default_place((entry.annotations or {}).get(REF_NAME), directory)
        self.manifest = self._blob(entry, "manifest", MAX_MANIFEST)
        document = parse(self.manifest, self.name)
        while isinstance(document, Index):
            self.manifest = self._blob(choose(document, platform, self.name), "manifest", MAX_MANIFEST)
            document = parse(self.manifest, self.name)
        self.config_bytes = self._blob(document.config, "config", MAX_CONFIG)
        self.config_digest = document.config.hash
        self.config = parse_config(self.config_bytes, self.name, len(document.layers))
        self._descriptors = document.layers
        self.layers = layers_of(self.name, document, self.config)

    def read(self, wanted: Sequence[int]) -> Generator[tuple[int, Iterator[bytes]], None, None]:
        for number in wanted:
            path = self._path(self._descriptors[number])
            try:
                file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed after the yield
            except OSError as error:
                raise UsageError(f"{self.layers[number].blob.name}: {path}: {error.strerror}") from None
            with file:
                yield number, parts_of(file)

    def _named(self, tag: str | None) -> Descriptor:
        path = os.path.join(self._directory, "index.json")
        try:
            with open(path, "rb") as file:
                index = parse(file.read(MAX_MANIFEST + 1), path)
        except OSError as error:
            raise UsageError(f"{self.name}: {path}: {error.strerror}") from None
        if not isinstance(index, Index):
            raise FormatError(f"{self.name}: index.json is not an index")
        names = {(entry.annotations or {}).get(REF_NAME, ""): entry for entry in index.manifests}
        if tag is None:
            if len(index.manifests) == 1:
                return index.manifests[0]
        else:
            fitting = [name for name in names if name == tag or name.endswith(f":{tag}")]
            if tag in names or len(fitting) == 1:
                return names[tag if tag in names else fitting[0]]
        there = ", ".join(sorted(filter(None, names))) or "none"
        wish = f"no image with tag {tag}" if tag else "a tag is needed (oci:DIR:TAG)"
        raise UsageError(f"{self.name}: {wish}; the layout has: {there}")

    def _path(self, descriptor: Descriptor) -> str:
        algorithm, _, digits = descriptor.digest.partition(":")
        return os.path.join(self._directory, "blobs", algorithm, digits)

    def _blob(self, descriptor: Descriptor, what: str, limit: int) -> bytes:
        path = self._path(descriptor)
        if descriptor.size > limit:
            raise FormatError(f"{self.name}: {what} of {descriptor.size} bytes, over {limit}")
        try:
            with open(path, "rb") as file:
                data = file.read(descriptor.size + 1)
        except OSError as error:
            raise UsageError(f"{self.name}: {what} {path}: {error.strerror}") from None
        if len(data) != descriptor.size or sha256(data) != descriptor.hash:
            raise DigestMismatch(f"{self.name}: {what} {path} does not match its digest")
        return data
