"""The places of an image's parts in a repository's tree: its files, its layers, its documents."""

from lazyfs.core.digest import Digest
from lazyfs.core.params import FLAT

LAYERS, METADATA = b".layers", b".metadata"
INTERNAL = frozenset((FLAT, LAYERS, METADATA))
"""Folders that hold the parts of images. People do not use their paths; they use links that lead into these
folders."""


def flat_path(config: Digest) -> str:
    """Returns the path of an image's tree: `.flat/xx/<config digest>`. All names of the image share this
    path."""
    digits = config.hex()
    return f"{FLAT.decode()}/{digits[:2]}/{digits}"


def layer_path(diff_id: Digest) -> str:
    """Returns the path of a layer in the tree."""
    digits = diff_id.hex()
    return f"{LAYERS.decode()}/{digits[:2]}/{digits}"


def metadata_path(place: str) -> str:
    """Returns the path of the directory that holds an image's manifest and config."""
    return f"{METADATA.decode()}/{place}"
