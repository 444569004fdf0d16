"""An image that is exported from the objects of its repository."""

import stat
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from lazyfs.core.catalog.entry import LIVE, Entry
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import FormatError, NotFound, UsageError
from lazyfs.core.layers.record import Kind, Record
from lazyfs.core.oci.manifest import parse_config
from lazyfs.core.pack import NO_PACKS
from lazyfs.core.profile import without_hint
from lazyfs.core.tree_paths import layer_path, metadata_path
from lazyfs.images.layer_records import load
from lazyfs.repository.diff import resolve
from lazyfs.repository.image_place import find_place
from lazyfs.repository.stored_tree import StoredTree, TreeNode
from lazyfs.store.recent_objects import RecentObjects


class PublishedImage:
    """One image or tree of a revision. Implements `ExportedImage`."""

    def __init__(self, read: Callable[[ObjectRef], bytes], root: ObjectRef, name: str) -> None:
        """`read` returns an object's verified plaintext. `root`: the revision's root catalog. Raises
        UsageError if the revision has no image or tree of this name."""
        self._tree = StoredTree(RecentObjects(read), root)
        self.name = name
        self.place = find_place(self._tree, name)
        self._top = resolve(self._tree, self.place).node
        if not self._top.entry.is_dir or self._top.entry.flags & LIVE or not self.place:
            raise UsageError(f"{name or '/'}: is a folder of images; name one image or published tree")
        self.manifest = self._document("manifest.json")
        self.config = self._document("config.json")
        self.size = self._top.catalog.header.totals.bytes
        self.layers = self._kept_layers()

    def layer(self, diff_id: Digest) -> Sequence[Record]:
        found = load(self._tree, diff_id)
        assert found is not None
        return found

    def tree(self) -> Iterator[Record]:
        yield _record(b"", self._top.entry, self._top)
        first: dict[tuple[bytes, int], bytes] = {}
        stack = [_Folder(b"", b"", self._top, iter(self._tree.entries(self._top)))]
        while stack:
            folder = stack[-1]
            entry = next(folder.rest, None)
            if entry is None:
                stack.pop()
                continue
            path = folder.path + b"/" + entry.name if folder.path else entry.name
            # An index counts in one catalog, which may hang at several paths; a group id in the whole image.
            group = (folder.catalog if entry.link > 0 else b"", entry.link)
            record = _record(path, entry, folder.node)
            if entry.link and first.setdefault(group, path) != path:
                record.kind, record.content = Kind.HARDLINK, first[group]
            yield record
            if entry.is_dir:
                node = self._tree.node(entry, folder.node.catalog)
                catalog = path if entry.nested else folder.catalog
                stack.append(_Folder(path, catalog, node, iter(self._tree.entries(node))))

    def content(self, record: Record) -> Iterator[bytes]:
        if record.pack is not None:
            yield self._tree.read(record.pack)[record.offset : record.offset + record.size]
        elif record.size:
            file = Entry(b"", record.mode, 0, 0, 0, record.size, record.content, record.detail)
            yield from self._tree.bytes_of(file, NO_PACKS)

    def _document(self, name: str) -> bytes | None:
        try:
            return self._tree.file(f"{metadata_path(self.place)}/{name}")
        except NotFound:
            return None

    def _kept_layers(self) -> tuple[Digest, ...] | None:
        if self.config is None:
            return None
        diff_ids = parse_config(self.config, self.name).diff_ids
        kept = all(self._tree.find(f"{layer_path(diff_id)}/records") for diff_id in set(diff_ids))
        return diff_ids if kept else None


class _Folder(NamedTuple):
    """A directory whose entries are being read."""

    path: bytes
    catalog: bytes
    """The path of the catalog's root directory."""
    node: TreeNode
    rest: Iterator[Entry]


def _record(path: bytes, entry: Entry, folder: TreeNode) -> Record:
    """Returns the record of an entry. `folder`: the directory that holds the entry; for the root's entry, the
    root."""
    packed = entry.place(folder.catalog.packs) if entry.pack_number >= 0 else None
    if entry.is_file and entry.pack_number >= 0 and packed is None:
        raise FormatError(f"{path!r}: lies in no pack of its catalog")
    directory = stat.S_ISDIR(entry.mode)
    return Record(
        Kind.INODE,
        path,
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        mtime=entry.mtime,
        size=0 if directory else entry.size,
        content=b"" if directory else entry.content,
        detail=0 if directory or packed else entry.detail,
        xattrs=entry.xattrs if path else without_hint(entry.xattrs),
        pack=packed.ref if packed else None,
        offset=packed.start if packed else 0,
    )
