"""The contents of an image: its small files, and its other objects."""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.reach import ObjectKind, Reached, Seen, catalog_at, leads_to
from lazyfs.repository.stored_tree import StoredTree

END: Final = 3
"""If all chunks of a file but the last one were touched, the last one is added to them, unless it is more
than one END-th of the file."""


class TouchedContent(NamedTuple):
    """A touched object or small file of an image."""

    ref: ObjectRef
    small: bool
    """True for a small file, False for an object."""


class ImageContents:
    """All objects and small files of one image."""

    def __init__(self, tree: StoredTree, top: ObjectRef) -> None:
        """Reads all catalogs and chunk lists of the image. `top`: its top catalog. Raises NotFound, BadData
        or StoreError for one that cannot be read."""
        self.files: dict[Digest, Reached] = {}
        """Maps the SHA-256 of each small file to the pack that holds the file, with the place of the file in
        it."""
        self._objects: dict[Digest, Reached] = {}
        self._packs: dict[Digest, dict[Digest, None]] = {}
        self._chunked: dict[bytes, list[Digest]] = {}
        """Maps the path of each file of several chunks to the digests of its chunks."""
        seen = Seen()
        waiting = [catalog_at(top)]
        while waiting:
            found = waiting.pop()
            if found.kind is ObjectKind.PACK:
                assert found.content is not None
                self.files.setdefault(found.content, found)
                self._packs.setdefault(found.ref.digest, {})[found.content] = None
                continue
            if found.kind is ObjectKind.CHUNK:
                self._chunked.setdefault(found.path, []).append(found.ref.digest)
            if seen.first(found):
                self._objects.setdefault(found.ref.digest, found)
                if found.leads_on:
                    waiting += list(leads_to(found, tree.read(found.ref)))[::-1]

    def resolve(self, touched: Iterable[Digest]) -> list[TouchedContent]:
        """Returns the touched objects and small files, in the order of first use. Just before each of them
        come the catalogs and chunk lists that lead to it, from the top down. `touched`: digests of objects,
        and SHA-256 of small files.

        The digest of a pack stands for all files in it. Digests that the image does not have are left out.
        """
        # All catalogs first would take the bytes that a profile has on trust: the 2.5 MB of an image of
        # 38,000 entries, of which a start reads most only later.
        resolved: dict[ObjectRef, TouchedContent] = {}
        for digest in self._with_ends(list(touched)):
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

    def _with_ends(self, touched: list[Digest]) -> Iterator[Digest]:
        """Yields the touched objects. If all chunks of a file but the last one are among them, yields also
        the last chunk, after these.

        Whether the kernel reads ahead to the end of a file depends on its pace, and so differs between two
        starts: a start of an analysis waited for three such last chunks, among 302 objects.
        """
        places = {digest: at for at, digest in enumerate(touched)}
        ends: dict[Digest, list[Digest]] = {}
        for *others, last in self._chunked.values():
            if others and last not in places and places.keys() >= set(others) and self._is_end(others, last):
                ends.setdefault(max(others, key=places.__getitem__), []).append(last)
        for digest in touched:
            yield digest
            yield from ends.get(digest, ())

    def _is_end(self, others: list[Digest], last: Digest) -> bool:
        sizes = [self._objects[digest].ref.size for digest in (*others, last)]
        return END * sizes[-1] <= sum(sizes)
