"""The layers of images in the tree. `.layers/xx/<diff_id>/` holds `records`, from which images are merged
without the layer's bytes, and `layerfs`, the single layer as an overlay filesystem keeps it."""

import stat

from lazyfs.core.catalog.inode import Inode
from lazyfs.core.digest import Digest
from lazyfs.core.layers import record
from lazyfs.core.layers.record import Kind, Record
from lazyfs.core.layers.single import single
from lazyfs.core.params import Params
from lazyfs.core.tree_paths import layer_path
from lazyfs.images.snapshots import snapshot
from lazyfs.images.streams import ExactReader
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store.ingest import Ingest


def load(tree: StoredTree, diff_id: Digest) -> list[Record] | None:
    """Returns the records of a layer; None if the repository does not have the layer, or has only records of
    format version 1, which know no packs."""
    found = tree.find(f"{layer_path(diff_id)}/records")
    if found is None:
        return None
    try:
        return list(record.decode(tree.content(found)))
    except record.OlderRecords:
        return None


def keep(records: list[Record], params: Params, ingest: Ingest) -> Inode:
    """Writes a layer's records, whose contents must be set; returns the snapshot to put at `layer_path`."""
    parts = list(record.encode(records))
    file = Record(Kind.INODE, b"records", mode=stat.S_IFREG | 0o644, size=sum(map(len, parts)))
    ingest.add(file, ExactReader(parts).read)
    ingest.finish()
    top = Inode(stat.S_IFDIR | 0o755)
    assert top.children is not None
    top.children[b"records"] = Inode(file.mode, size=file.size, content=file.content, detail=file.detail)
    top.children[b"layerfs"] = snapshot(single(records), params, ingest)
    return snapshot(top, params, ingest)
