"""Converts images of format version 1, whose small files lie in no packs, from the objects in the store. No
source is read.

The kept records of a layer name its files in the order of its archive, and the store has the files' contents.
So a layer gets the same packs as if it were published again, and an image is merged from its layers as in a
publish. The result is compared with the published image; if it differs, the image is not converted. A
published tree (`tar:`, `dir:`) has no records and must be published again.
"""

import stat
from collections.abc import Callable, Iterator
from datetime import datetime

import msgspec

from lazyfs.core.catalog.entry import ADDED, NESTED, Entry
from lazyfs.core.catalog.inode import Inode
from lazyfs.core.catalog.layout import VERSION
from lazyfs.core.digest import Digest
from lazyfs.core.errors import BadData, NotFound
from lazyfs.core.layers import record
from lazyfs.core.layers.record import MAGIC_1, Kind, Record
from lazyfs.core.oci.manifest import parse_config
from lazyfs.core.pack import NO_PACKS
from lazyfs.core.tree_paths import layer_path, metadata_path
from lazyfs.images.image_tree import merged, metadata
from lazyfs.images.layer_records import keep, load
from lazyfs.images.snapshots import snapshot
from lazyfs.images.start_files import add
from lazyfs.images.streams import ExactReader
from lazyfs.repository.diff import ResolvedPath, diff, resolve
from lazyfs.repository.edit import Edit
from lazyfs.repository.format_upgrade import older_images
from lazyfs.repository.keys import Keys
from lazyfs.repository.stored_tree import StoredTree, TreeNode
from lazyfs.store import Store

Warn = Callable[[str], None]


def convert(store: Store, keys: Keys, now: Callable[[], datetime], warn: Warn) -> Iterator[tuple[str, bool]]:
    """Converts the images of the committed revision that have an older format, and commits them together once
    all have been yielded. Yields each image's name, with True if the image is converted and False if it is
    not.

    A killed run leaves the revision unchanged; the next run finds the packs that the killed one has written.
    Raises LazyfsError.
    """
    with Edit(store, keys, now) as edit:
        conversion = Conversion(edit, warn)
        for place in older_images(edit.tree):
            yield place, conversion.convert(place)
        edit.commit()


class Conversion:
    """Converts images within one Edit, the changes of the tree that are made together; the caller commits
    it."""

    def __init__(self, edit: Edit, warn: Warn) -> None:
        self._edit = edit
        self._tree = edit.tree
        self._warn = warn
        self._layers: dict[Digest, Inode] = {}
        """The snapshots of the layers that were converted."""
        self._flat: dict[str, bool] = {}
        """Maps the path of an image's tree to True if the tree has been converted, and to False if it could
        not be."""

    def convert(self, place: str) -> bool:
        """Converts the image published at a place. Returns False if the image has no records, or if the
        result would differ from the published image."""
        try:
            found = resolve(self._tree, place)
            if found.path not in self._flat:
                self._flat[found.path] = self._convert_tree(place, found)
            if self._flat[found.path]:
                self._convert_metadata(place)
            return self._flat[found.path]
        except (BadData, NotFound) as error:
            self._warn(f"{place}: {error}")
            return False

    def _convert_tree(self, place: str, found: ResolvedPath) -> bool:
        config_file = f"{metadata_path(place)}/config.json"
        if self._tree.find(config_file) is None or found.path == place:
            return False
        config = parse_config(self._tree.file(config_file), config_file)
        layers = []
        for diff_id in config.diff_ids:
            records = self._records(diff_id)
            if records is None:
                return False
            layers.append((layer_path(diff_id), records))
        root = merged(layers, lambda message: self._warn(f"{place}: {message}"))
        if _has_added(self._tree, found.node):
            add(root, config, self._edit.ingest)
        made = snapshot(root, self._edit.base.params, self._edit.ingest)
        changed = next(diff(found, self._resolved(made)), None)
        if changed is not None:
            self._warn(f"{place}: {changed.path.decode(errors='replace')} would differ")
            return False
        self._edit.put(found.path, made)
        return True

    def _convert_metadata(self, place: str) -> None:
        where = metadata_path(place)
        files = [self._tree.file(f"{where}/{name}") for name in ("manifest.json", "config.json")]
        created = parse_config(files[1], f"{where}/config.json").created_ns
        made = metadata(files[0], files[1], created, self._edit.base.params, self._edit.ingest)
        self._edit.put(where, made)

    def _records(self, diff_id: Digest) -> list[Record] | None:
        """Returns the records of a layer, with places in packs; None if the repository has no records of the
        layer."""
        if diff_id in self._layers:
            kept = self._resolved(self._layers[diff_id]).node
            entry = kept.catalog.directory(0).find(b"records")
            assert entry is not None
            return list(record.decode(self._tree.content(self._tree.node(entry, kept.catalog))))
        found = self._tree.find(f"{layer_path(diff_id)}/records")
        if found is None:
            return None
        if found.catalog.version == VERSION:
            return load(self._tree, diff_id)
        records = self._packed(list(record.decode(self._tree.content(found), MAGIC_1)))
        self._layers[diff_id] = keep(records, self._edit.base.params, self._edit.ingest)
        self._edit.put(layer_path(diff_id), self._layers[diff_id])
        return records

    def _packed(self, records: list[Record]) -> list[Record]:
        """Puts the small files of these records into packs; returns the records with the new places."""
        files = self._edit.ingest.layer()
        for one in records:
            if one.kind == Kind.INODE and stat.S_ISREG(one.mode) and one.size:
                stored = Entry(b"", one.mode, 0, 0, 0, one.size, one.content, one.detail)
                one.detail = 0
                files.add(one, ExactReader(self._tree.bytes_of(stored, NO_PACKS)).read)
        files.end()
        self._edit.ingest.finish()
        return records

    def _resolved(self, made: Inode) -> ResolvedPath:
        """Returns a snapshot as a resolved path. The snapshot is in the store, but not in the tree yet."""
        assert made.nested is not None
        catalog = self._tree.catalog(made.nested.ref)
        entry = msgspec.structs.replace(
            catalog.root, content=made.nested.ref.digest, detail=made.nested.ref.size, flags=NESTED
        )
        return ResolvedPath(self._tree, TreeNode(entry, catalog, 0))


def _has_added(tree: StoredTree, top: TreeNode) -> bool:
    """Returns True if the publisher added start-up files to an image. Looks only near the top of the tree,
    where they lie."""
    return any(entry.flags & ADDED for entry in _near(tree, top, 3))


def _near(tree: StoredTree, node: TreeNode, depth: int) -> Iterator[Entry]:
    for entry in tree.entries(node):
        yield entry
        if entry.is_dir and depth > 1:
            yield from _near(tree, tree.node(entry, node.catalog), depth - 1)
