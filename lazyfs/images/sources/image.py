"""The interface between every source of an image and the publisher."""

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import NamedTuple, Protocol

from lazyfs.core.digest import Digest
from lazyfs.core.oci.manifest import Config, Manifest
from lazyfs.images.layer_reader import Blob

KnownConfig = Callable[[str, Digest], bytes | None]
"""A function of (place, digest): returns the config of the image published at this place if it has this
digest, so that it need not be fetched again; otherwise None."""


def none_known(_: str, __: Digest) -> bytes | None:
    """Returns None, as the KnownConfig of a tree in which nothing is published."""
    return None


class Layer(NamedTuple):
    """One layer of an image as the source knows it before reading it."""

    blob: Blob
    diff_id: Digest


def layers_of(name: str, manifest: Manifest, config: Config) -> tuple[Layer, ...]:
    """Returns the layers of the image called `name`: descriptors from its manifest, diff_ids from its config,
    whose counts `parse_config` has found equal."""
    return tuple(
        Layer(Blob(f"{name}: layer {number} ({layer.digest})", layer.size, layer.hash, diff_id), diff_id)
        for number, (layer, diff_id) in enumerate(zip(manifest.layers, config.diff_ids, strict=True))
    )


class Image(Protocol):
    """One image. Layers are read in the order that suits the source."""

    name: str
    """The name in messages."""
    place: str | None
    """The default place in the tree: `registry/repository:tag`."""
    manifest: bytes
    config_bytes: bytes
    config_digest: Digest
    config: Config
    layers: tuple[Layer, ...]
    notes: tuple[str, ...]
    """Warnings for the operator, one line each."""

    def read(self, wanted: Sequence[int]) -> Generator[tuple[int, Iterable[bytes]], None, None]:
        """Yields (number, stored bytes in parts) for the layers with these numbers. Each layer has to be used
        up before the next is asked for. Raises BadData, TransportError or UsageError."""
        ...


def distinct(image: Image) -> list[Layer]:
    """Returns each layer once: an image may have the same layer several times."""
    return list({layer.diff_id: layer for layer in reversed(image.layers)}.values())
