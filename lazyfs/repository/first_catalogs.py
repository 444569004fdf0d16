"""The catalogs that every start needs first: those of the folders below a repository's root."""

from collections.abc import Iterator

from lazyfs.core import bounds
from lazyfs.core.catalog.entry import LIVE
from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import BadData, NotFound
from lazyfs.core.params import FLAT
from lazyfs.repository.stored_tree import StoredTree

BYTES = 256 << 10
"""The largest number of plaintext bytes of all these catalogs."""


def first_catalogs(tree: StoredTree) -> tuple[ObjectRef, ...]:
    """Returns the catalogs of the folders below the root, from the top down: whole levels, as long as they
    are few and small. Stops at a catalog that cannot be read."""
    found: list[ObjectRef] = []
    level = [tree.root_ref]
    try:
        while level:
            level = [ref for above in level for ref in _folders(tree, above)]
            seen = dict.fromkeys([*found, *level])
            if len(seen) > bounds.FIRST_CATALOGS or sum(ref.size for ref in seen) > BYTES:
                break
            found = list(seen)
    except (BadData, NotFound):
        pass  # a hint only
    return tuple(found)


def _folders(tree: StoredTree, ref: ObjectRef) -> Iterator[ObjectRef]:
    for entry in tree.catalog(ref).directory(0).entries:
        if entry.nested and entry.flags & LIVE and (entry.name == FLAT or not entry.name.startswith(b".")):
            yield entry.nested
