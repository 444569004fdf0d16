"""The notations for an image: a name, a path, an image reference of a registry, a SIF file."""

from lazyfs.core.errors import UsageError
from lazyfs.core.shown_address import shown_source

_REGISTRY = "docker://"
_TAKE_FILE = "take the SIF file (apptainer pull, curl), and give its path"
_OTHERS = {
    "shub://": "Singularity Hub was closed in 2021; publish the image, or build a SIF file of it",
    "library://": _TAKE_FILE,
    "oras://": _TAKE_FILE,
    "http://": "anybody on the way could change it: give an https:// address, or the path of a SIF file",
}
_PULLED = ("https://", "oci:", "docker-archive:")
"""Prefixes of sources that are in no mount. Their images are unpacked into the store of pulled images."""
_MAGIC, _MAGIC_AT = b"SIF_MAGIC", 32


def looked_up(image: str) -> str | None:
    """Returns the name or path under which a mount may have the image: NAME for `docker://NAME`, else the
    text itself. Returns None for a source that no mount can have. Raises UsageError for a source that cannot
    be run."""
    for prefix, remedy in _OTHERS.items():
        if image.startswith(prefix):
            raise UsageError(f"image {shown_source(image)}: nothing is run from {prefix}; {remedy}")
    return None if image.startswith(_PULLED) else image.removeprefix(_REGISTRY)


def can_be_pulled(image: str) -> bool:
    """Returns True if `image` says where the image can be pulled from: a registry, an archive, a URL."""
    return image.startswith((_REGISTRY, *_PULLED))


def with_remedy(image: str, error: UsageError) -> UsageError:
    """Returns the error to raise for an image that was not found while nothing may be pulled. For an image
    that could be pulled, it also says how to get it."""
    if not can_be_pulled(image):
        return error
    publish = f"`lazyfs publish {shown_source(image)} STORE` puts it into a repository"
    remedy = _TAKE_FILE if image.startswith("https://") else publish
    return UsageError(f"{error}; it is not pulled now (--no-pull, --explain): {remedy}")


def is_sif(path: str) -> bool:
    """Returns True for a file in apptainer's Singularity Image Format."""
    try:
        with open(path, "rb") as file:
            return file.read(_MAGIC_AT + len(_MAGIC))[_MAGIC_AT:] == _MAGIC
    except OSError:
        return False
