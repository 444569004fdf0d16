"""The contents of an image: its small files, and its other objects."""

from collections.abc import Iterable
from typing import NamedTuple

from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.reach import ObjectKind, Reached, Seen, catalog_at, leads_to
from lazyfs.repository.stored_tree import StoredTree


class Resolved(NamedTuple):
    """The contents of an image that starts have touched, and the objects that lead to them."""

    leading: list[ObjectRef]
    """The catalogs and chunk lists that lead to the contents, from the top down."""
    contents: list[ObjectRef]
    """Small files and objects, in the order of first use."""


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

    def resolve(self, touched: Iterable[Digest]) -> Resolved:
        """Finds touched objects and small files, the latter by their SHA-256. The digest of a pack stands for
        all files in it. Digests that the image does not have are left out."""
        leading: dict[ObjectRef, None] = {}
        contents: dict[ObjectRef, None] = {}
        for digest in touched:
            if digest not in self.files and digest in self._objects:
                found = self._objects[digest]
                leading.update(dict.fromkeys(found.above()))
                (leading if found.leads_on else contents).setdefault(found.ref)
                continue
            for file in (digest,) if digest in self.files else self._packs.get(digest, ()):
                found = self.files[file]
                leading.update(dict.fromkeys(found.above()))
                contents.setdefault(ObjectRef(file, found.file_size))
        return Resolved(list(leading), [ref for ref in contents if ref not in leading])

    def is_small(self, ref: ObjectRef) -> bool:
        """Returns True for the content of a small file."""
        return ref.digest in self.files
