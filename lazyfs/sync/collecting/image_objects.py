"""Looks up files and objects in the images of a repository's newest revision, to check reports against
them."""

from collections import OrderedDict
from typing import Final

from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.reach import images
from lazyfs.images.profiles.image_files import ImageFile, ImageFiles
from lazyfs.repository.commit import read_revision
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import Store, reader
from lazyfs.store.recent_objects import RecentObjects

AT_HAND: Final = 4
"""The largest number of images whose catalogs are kept in memory, some 20 MB for each image."""
LOOK: Final = 30.0
"""The shortest time in seconds between two checks for a newer revision."""


class ImageObjects:
    """One image: its files by path, and their objects."""

    def __init__(self, files: ImageFiles, top: ObjectRef, path: str) -> None:
        self._files = files
        self.top = top
        """The image's top catalog."""
        self.path = path
        """The path of the image's root directory in the repository."""

    def sizes(self, path: bytes) -> dict[Digest, int]:
        """Returns the digests by which a profile names the contents of a file, each with its plaintext size.
        For a file in a pack this is the SHA-256 of the file itself; for another file, the digests of the
        objects that hold its bytes. The result is empty if the image has no such file."""
        return self._sizes(self._at(path))

    def sizes_at_hand(self, path: bytes) -> dict[Digest, int] | None:
        """Returns the same as `sizes`; None if that needs a chunk list, which may have to be fetched from the
        store and may be long."""
        found = self._at(path)
        if found is not None and found.entry.chunk_list is not None:
            return None
        return self._sizes(found)

    def is_program(self, path: bytes) -> bool:
        """Returns True if the image has an executable file at this path."""
        found = self._at(path)
        return found is not None and bool(found.entry.mode & 0o111)

    def _sizes(self, found: ImageFile | None) -> dict[Digest, int]:
        return {part.ref.digest: part.ref.size for part in self._files.parts(found)} if found else {}

    def _at(self, path: bytes) -> ImageFile | None:
        # A mount reports files by the paths that they have. Nor may a path lead through links whose targets
        # take long to follow: a report has 20,000 paths.
        found = self._files.find(path, most_links=0)
        return found if found is not None and found.path == path and found.entry.is_file else None


class RepositoryImages:
    """The images of a repository's newest revision. Not thread-safe."""

    def __init__(self, store: Store) -> None:
        """Reads the newest revision and lists its images. Raises as `read_revision`."""
        self._store = store
        self._read = RecentObjects(reader(store))
        self._at_hand: OrderedDict[Digest, ImageObjects] = OrderedDict()
        self._looked = float("-inf")
        self.revision = read_revision(store)
        self._tops: dict[Digest, tuple[ObjectRef, str]] = {}
        self._list()

    @property
    def tree(self) -> StoredTree:
        """The tree of the revision."""
        return StoredTree(self._read, self.revision.root)

    def look(self, now: float) -> None:
        """Reads the newest revision again, unless the last `look` was less than LOOK seconds ago. `now`:
        seconds since 1970. Raises as `read_revision`."""
        if now - self._looked < LOOK:
            return
        self._looked = now
        newest = read_revision(self._store)
        if newest.root != self.revision.root:
            self.revision = newest
            self._list()

    def __contains__(self, image: object) -> bool:
        return image in self._tops

    def path_of(self, image: Digest) -> str:
        """Returns the path of an image that is `in` these images."""
        return self._tops[image][1]

    def find(self, image: Digest, now: float) -> ImageObjects | None:
        """Returns the image whose top catalog has the digest `image`; None if the newest revision has no such
        image. `now`: as for `look`."""
        if image not in self._tops:
            self.look(now)
        known = self._tops.get(image)
        if known is None:
            return None
        found = self._at_hand.pop(image, None)
        if found is None:
            found = ImageObjects(ImageFiles(self.tree, known[0]), *known)
        self._at_hand[image] = found
        if len(self._at_hand) > AT_HAND:
            self._at_hand.popitem(last=False)
        return found

    def _list(self) -> None:
        tree = self.tree
        self._tops = {}
        for reached in images(tree.root_ref, tree.read):
            self._tops.setdefault(
                reached.ref.digest, (reached.ref, reached.path.decode(errors="surrogateescape"))
            )
        for gone in self._at_hand.keys() - self._tops.keys():
            del self._at_hand[gone]
