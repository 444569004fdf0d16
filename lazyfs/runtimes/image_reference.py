"""The notations for an image: a name, a path, a reference in a registry, a SIF file."""

from lazyfs.core.errors import UsageError

_REGISTRY = "docker://"
_TAKE_FILE = "take the SIF file (apptainer pull, curl), and give its path"
_OTHERS = {
    "shub://": "Singularity Hub was closed in 2021; publish the image, or build a SIF file of it",
    "library://": _TAKE_FILE,
    "oras://": _TAKE_FILE,
    "http://": _TAKE_FILE,
    "https://": _TAKE_FILE,
    "oci:": "`lazyfs demo oci:DIR -- COMMAND` runs from a layout, `lazyfs publish oci:DIR STORE` keeps it",
}
_MAGIC, _MAGIC_AT = b"SIF_MAGIC", 32


def looked_up(image: str) -> str:
    """Returns the name or path to look up for an image as people write it: `docker://NAME` is NAME in the
    mounted repositories, because nothing is pulled here. Raises UsageError for other sources."""
    for prefix, remedy in _OTHERS.items():
        if image.startswith(prefix):
            raise UsageError(f"image {image}: nothing is run from {prefix}; {remedy}")
    return image.removeprefix(_REGISTRY)


def with_remedy(image: str, error: UsageError) -> UsageError:
    """Returns the error about an image that was not found; for a reference, it says how to publish the
    image."""
    if not image.startswith(_REGISTRY):
        return error
    return UsageError(
        f"{error}; nothing is pulled here: `lazyfs publish {image} STORE` puts it into a repository"
    )


def is_sif(path: str) -> bool:
    """Returns True for a file in apptainer's Singularity Image Format."""
    try:
        with open(path, "rb") as file:
            return file.read(_MAGIC_AT + len(_MAGIC))[_MAGIC_AT:] == _MAGIC
    except OSError:
        return False
