"""A store of images for podman whose files lie in a mount: an additional image store of containers/storage.

The directory has a few small files for each image (its manifest, its config, and their names). The image has
one layer there, which is a link to the image's tree in the mount. So `podman run` finds the image as if it
had been pulled, and what the program reads comes from the mount. The image's own layers are not shown,
because the tree has them merged, as every other runtime here sees them.
"""

import base64
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from lazyfs.core.errors import FormatError, UsageError
from lazyfs.core.oci.run_config import MAX_CONFIG
from lazyfs.runtimes import path_in_image
from lazyfs.runtimes.find_image import FoundImage

_METADATA = "/.metadata/"
_IMAGES, _LAYERS, _TREES = "overlay-images", "overlay-layers", "overlay"
_NO_TIME = "1970-01-01T00:00:00Z"
_LINK_SIZE = 26
"""Characters of a layer's short name. overlay's mount options name the layer by it, instead of by its
path."""


class StoredImage(NamedTuple):
    """An image that was put into the store."""

    name: str
    """`registry/repository:tag`."""
    number: str
    """The image's id: the digest of its config."""


def add_image(store: str, found: FoundImage) -> StoredImage:
    """Puts an image into the store; makes the store if it does not exist. If the store has another image of
    this name, that image loses the name. Raises UsageError for an image without a name or manifest,
    FormatError for a damaged image."""
    if found.metadata is None or _METADATA not in found.metadata or os.path.isfile(found.root):
        raise UsageError(f"image {found.path or found.root}: has no manifest in its tree; give its name")
    name = found.metadata.rpartition(_METADATA)[2]
    if ":" not in name.rpartition("/")[2] or name.startswith("."):
        raise UsageError(f"image {name}: podman needs a name with a tag; give registry/repository:tag")
    manifest, config = (_read(found.metadata, file) for file in ("manifest.json", "config.json"))
    image = _image(name, manifest, config)
    try:
        with _locked(store):
            _make_tree(store, image["layer"], found.root)
            _make_files(store, image["id"], {"manifest": manifest, f"sha256:{image['id']}": config})
            _update(os.path.join(store, _LAYERS, "layers.json"), _layer(image))
            _update(os.path.join(store, _IMAGES, "images.json"), image)
    except OSError as error:
        raise UsageError(f"store {store}: {error.filename}: {error.strerror}") from None
    return StoredImage(name, image["id"])


def _read(metadata: str, file: str) -> bytes:
    content = path_in_image.read(metadata, f"/{file}", MAX_CONFIG)
    if content is None:
        raise FormatError(f"{metadata}: has no {file}; publish the image once more")
    return content


def _image(name: str, manifest: bytes, config: bytes) -> dict[str, Any]:
    """Returns the image's record in images.json."""
    number = hashlib.sha256(config).hexdigest()
    files = {"manifest": manifest, f"sha256:{number}": config}
    return {
        "id": number,
        "digest": _digest(manifest),
        "names": [name],
        # no digest of a real layer: what is pulled into the main store must not take this tree for one
        "layer": hashlib.sha256(f"lazyfs merged {number}".encode()).hexdigest(),
        "metadata": "{}",
        "big-data-names": list(files),
        "big-data-sizes": {key: len(content) for key, content in files.items()},
        "big-data-digests": {key: _digest(content) for key, content in files.items()},
        "created": _created(config),
    }


def _layer(image: dict[str, Any]) -> dict[str, Any]:
    """Returns the layer's record in layers.json. podman demands a digest and a size."""
    return {
        "id": image["layer"],
        "created": image["created"],
        "diff-digest": f"sha256:{image['layer']}",
        "diff-size": 1,
    }


def _created(config: bytes) -> str:
    try:
        stated = json.loads(config).get("created")
    except (ValueError, AttributeError, RecursionError):
        raise FormatError("the image's config.json is no JSON object; publish the image once more") from None
    return stated if isinstance(stated, str) and stated else _NO_TIME


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _make_tree(store: str, layer: str, root: str) -> None:
    """Makes the link from the layer to the image's tree."""
    short = base64.b32encode(bytes.fromhex(layer)).decode()[:_LINK_SIZE]
    top = os.path.join(store, _TREES)
    os.makedirs(os.path.join(top, layer), exist_ok=True)
    os.makedirs(os.path.join(top, "l"), exist_ok=True)
    _link(root, os.path.join(top, layer, "diff"))
    _link(f"../{layer}/diff", os.path.join(top, "l", short))
    _write(os.path.join(top, layer, "link"), short.encode())


def _make_files(store: str, number: str, files: dict[str, bytes]) -> None:
    directory = os.path.join(store, _IMAGES, number)
    os.makedirs(directory, exist_ok=True)
    for key, content in files.items():
        plain = key.isalnum()
        name = key if plain else "=" + base64.b64encode(key.encode()).decode()
        _write(os.path.join(directory, name), content)


def _update(path: str, record: dict[str, Any]) -> None:
    """Writes a record into the list in the file `path`. The record replaces the one with the same id, and
    keeps that one's names beside its own. All other records lose these names; a record that has lost all its
    names is removed."""
    try:
        with open(path, "rb") as file:
            known = json.load(file)
    except FileNotFoundError:
        known = []
    except ValueError:
        raise UsageError(f"{path}: is no list of podman's; take another directory") from None
    names = record.get("names", [])
    kept = []
    for other in known:
        if other["id"] == record["id"]:
            names = list(dict.fromkeys((*names, *other.get("names", ()))))
        elif "names" not in other:
            kept.append(other)
        elif left := [name for name in other["names"] if name not in names]:
            kept.append({**other, "names": left})
    named = {**record, "names": names} if "names" in record else record
    _write(path, json.dumps([*kept, named]).encode())


@contextmanager
def _locked(store: str) -> Iterator[None]:
    """Makes the store's directories and lock files, and locks the store against other writers for the
    block."""
    for folder, lock in ((_LAYERS, "layers.lock"), (_IMAGES, "images.lock")):
        os.makedirs(os.path.join(store, folder), exist_ok=True)
        os.close(os.open(os.path.join(store, folder, lock), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    with open(os.path.join(store, _IMAGES, "images.lock"), "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _link(target: str, path: str) -> None:
    fresh = f"{path}.new"
    if os.path.lexists(fresh):
        os.unlink(fresh)
    os.symlink(target, fresh)
    os.rename(fresh, path)


def _write(path: str, content: bytes) -> None:
    fresh = f"{path}.new"
    with open(fresh, "wb") as file:
        file.write(content)
    os.rename(fresh, path)
