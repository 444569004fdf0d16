"""Copies some images of a repository into a store. A mount of the store reads the other images from another
store, or does not have them."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from lazyfs.core import codec
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.core.errors import UsageError
from lazyfs.core.reach import ObjectKind, Reached, objects_at
from lazyfs.core.tree_paths import metadata_path
from lazyfs.repository.committed import read_committed
from lazyfs.repository.diff import resolve
from lazyfs.repository.image_place import find_place
from lazyfs.repository.mirror import Mirror, settle
from lazyfs.repository.mirror_removal import MirrorReport
from lazyfs.repository.stored_tree import StoredTree


class Preload(Mirror):
    """One run that copies images. Afterwards the target may have a catalog without everything below it, so no
    Mirror may continue from such a store."""

    def take(self, images: Sequence[str]) -> MirrorReport:
        """Copies these images of the newest revision, and the catalogs that lead to them, into the target.
        Deletes nothing. Raises as `run`, and UsageError for a name that the repository does not have."""
        newest = read_committed(self._source)
        last = self._last(newest)
        root = newest.revision.root
        read = self._kept_reader()
        tree = StoredTree(read, root)
        with ThreadPoolExecutor(self._workers, "preload") as pool:
            waiting: list[Future[None]] = []
            reached: set[Digest] = set()
            for image in images:
                place = find_place(tree, image)
                if not place:
                    raise UsageError(f"{image}: the repository has no such image")
                for path in (place, resolve(tree, place).path, metadata_path(place)):
                    if tree.find(path) is None:
                        continue
                    for found in objects_at(root, path.encode(), read):
                        reached.add(found.ref.digest)
                        if not found.leads_on and found.ref.digest not in self._copied:
                            self._copied.add(found.ref.digest)
                            waiting.append(pool.submit(self._leaf, found))
            settle(waiting)
            self._target.sync()
            self._signed(newest, last)
            self._profiles(newest, pool, lambda profile: profile.image in reached)
        self.report.revision, self.report.changed = newest.revision.number, bool(self.report.objects)
        return self.report

    def _kept_reader(self) -> Callable[[ObjectRef], bytes]:
        """Returns a function that reads a catalog from the target, and copies it there first if it is
        missing."""

        def read(ref: ObjectRef) -> bytes:
            found = Reached(ref, ObjectKind.CATALOG)
            if self._target.has(ref.digest):
                return codec.open_object(self._target.get(ref.digest), found.ref)
            stored = self._source.get(ref.digest)
            plain = codec.open_object(stored, found.ref)
            self._put(found, stored)
            return plain

        return read
