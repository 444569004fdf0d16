"""The contents of an image: its small files, and its other objects."""

from collections.abc import Iterable
from typing import NamedTuple

from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.reach import ObjectKind, Reached, Seen, catalog_at, leads_to
from lazyfs.repository.stored_tree import StoredTree


class TouchedContent(NamedTuple):
    """A touched object or small file of an image."""

    ref: ObjectRef
    small: bool
    """True for a small file, False for an object."""


class ImageContents:
    """All objects and small files of one image."""

    def __init__(self, tree: StoredTree, top: ObjectRef) -> None:
        """`top`: the image's top catalog. Raises as StoredTree.read, and FormatError."""
        self._tree = tree
        self.files: dict[Digest, Reached] = {}
        """SHA-256 of each small file -> the pack that holds it, and its place there."""
        self._objects: dict[Digest, Reached] = {}
        self._packs: dict[Digest, dict[Digest, None]] = {}
        seen = Seen()
        waiting = [catalog_at(top)]
        while waiting:
            found = waiting.pop()
            if found.kind is ObjectKind.PACK:
                assert found.content is not None
                self.files.setdefault(found.content, found)
                self._packs.setdefault(found.ref.digest, {})[found.content] = None
            elif seen.first(found):
                self._objects.setdefault(found.ref.digest, found)
                if found.leads_on:
                    waiting += list(leads_to(found, tree.read(found.ref)))[::-1]

    def resolve(self, touched: Iterable[Digest]) -> list[TouchedContent]:
        """Finds touched objects and small files, the latter by their SHA-256, in the order of first use. The
        catalogs and chunk lists that lead to one come just before it, from the top down.

        The digest of a pack stands for all files in it. Digests that the image does not have are left out.
        """
        # All catalogs first would take the bytes that a profile has on trust: the 2.5 MB of an image of
        # 38,000 entries, of which a start reads most only later.
        resolved: dict[ObjectRef, TouchedContent] = {}
        for digest in touched:
            if digest not in self.files and digest in self._objects:
                found = self._objects[digest]
                for ref in (*found.above(), found.ref):
                    resolved.setdefault(ref, TouchedContent(ref, small=False))
                continue
            for file in (digest,) if digest in self.files else self._packs.get(digest, ()):
                found = self.files[file]
                for ref in found.above():
                    resolved.setdefault(ref, TouchedContent(ref, small=False))
                ref = ObjectRef(file, found.file_size)
                resolved.setdefault(ref, TouchedContent(ref, small=True))
        return list(resolved.values())
