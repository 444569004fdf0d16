"""Removes images from a revision's tree: their names, and the trees and layers that no other name needs any
more.

An image's own tree in `.flat` is removed together with the last name of the image, and a layer's records
together with the last image that has the layer. A removed image is hidden at once. Its objects stay as long
as a kept revision leads to them, and then a collection deletes them.
"""

import posixpath
import stat
from collections.abc import Collection, Iterable, Iterator

from lazyfs.core.catalog.inode import Inode
from lazyfs.core.digest import Digest, parse_hex
from lazyfs.core.errors import FormatError, UsageError
from lazyfs.core.oci.manifest import parse_config
from lazyfs.core.params import FLAT
from lazyfs.core.tree_paths import INTERNAL, LAYERS, layer_path, metadata_path
from lazyfs.repository.live_tree import LiveTree

_FLAT, _LAYERS = f"{FLAT.decode()}/", f"{LAYERS.decode()}/"
CONFIG = "config.json"


def remove_images(tree: LiveTree, places: Iterable[str]) -> list[str]:
    """Removes the links or trees at these places, and the trees and layers that only they led to; returns the
    paths that are gone. Skips a place where nothing is. Give all places of one change in one call: each call
    reads the configs of all images that stay.

    Raises UsageError for an image's own tree and for a layer, and the errors of the tree.
    """
    gone: list[str] = []
    flats: set[str] = set()
    layers: set[Digest] = set()
    for place in places:
        inode = tree.get(place)
        if inode is None:
            continue
        if place.startswith((_FLAT, _LAYERS)):
            raise UsageError(f"{place} is a part of images: remove the images' names")
        target = link_target(place, inode)
        if target.startswith(_FLAT):
            flats.add(target)
            layers.update(layers_of(tree, place) or ())
        gone += [path for path in (place, metadata_path(place)) if tree.remove(path)]
    if flats:
        flats.difference_update(target for _, target in links(tree))
        gone += [flat for flat in sorted(flats) if tree.remove(flat)]
        gone += _remove_layers(tree, layers)
    return gone


def remove_untagged(tree: LiveTree, keep: Collection[str] = ()) -> list[str]:
    """Removes the images' trees that no name leads to, such as those of tags that have moved, and the layers
    that no named image has; returns the paths that are gone. `keep`: paths in `.flat` to leave there.

    A layer of a tree in `keep` stays only if a named image has the layer too: the config of an image without
    a name is not in the tree.
    """
    named = {target for _, target in links(tree)} | set(keep)
    others = INTERNAL - {FLAT}
    flats = [path for path, _ in tree.hanging(others) if path.startswith(_FLAT) and path not in named]
    gone = [flat for flat in flats if tree.remove(flat)]
    layers = []
    for path, _ in tree.hanging(INTERNAL - {LAYERS}):
        if path.startswith(_LAYERS):
            try:
                layers.append(parse_hex(posixpath.basename(path)))
            except FormatError:
                continue  # not a publisher's
    return gone + _remove_layers(tree, layers)


def links(tree: LiveTree) -> Iterator[tuple[str, str]]:
    """Yields every link to an image's tree: its place, and the path in `.flat`."""
    for place, inode in tree.hanging(INTERNAL):
        target = link_target(place, inode)
        if target.startswith(_FLAT):
            yield place, target


def link_target(place: str, inode: Inode) -> str:
    """Returns the path of the tree that a link at `place` leads to; empty for anything but a link."""
    if not stat.S_ISLNK(inode.mode):
        return ""
    target = inode.content.decode(errors="surrogateescape")
    return posixpath.normpath(posixpath.join(posixpath.dirname(place), target))


def layers_of(tree: LiveTree, place: str) -> list[Digest] | None:
    """Returns the diff_ids of the image at a place; None if its config is not in the tree."""
    config = tree.snapshot_file(metadata_path(place), CONFIG)
    return list(parse_config(config, f"{metadata_path(place)}/{CONFIG}").diff_ids) if config else None


def _remove_layers(tree: LiveTree, candidates: Iterable[Digest]) -> list[str]:
    """Removes the layers among `candidates` that no image of the tree names; returns the removed paths."""
    unused = {diff_id for diff_id in candidates if tree.get(layer_path(diff_id)) is not None}
    if not unused:
        return []
    places: dict[str, list[str]] = {}
    for place, flat in links(tree):
        places.setdefault(flat, []).append(place)
    for names in places.values():
        found = (layers_of(tree, place) for place in names)
        used = next((layers for layers in found if layers is not None), None)
        if used is None:
            return []  # an image whose layers cannot be known may have any of them
        unused.difference_update(used)
        if not unused:
            return []
    return [path for path in sorted(map(layer_path, unused)) if tree.remove(path)]
