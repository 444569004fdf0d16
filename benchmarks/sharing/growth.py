"""A store that is filled image by image, and how much each image adds."""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.startup import origin
from lazyfs.core.digest import Digest, object_path
from lazyfs.core.params import FLAT
from lazyfs.core.reach import ObjectKind, catalog_at, objects_at, walk
from lazyfs.repository.committed import read_revision
from lazyfs.repository.image_place import find_place
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store.directory import DirectoryStore
from lazyfs.store.verified import reader

REGISTRY: Final = "registry.example"


class Published(msgspec.Struct, frozen=True):
    """The cost of publishing one image, and the objects that it has added to a store."""

    revision: str
    """Label of the revision; empty for this checkout."""
    image: str
    seconds: list[float]
    cpu_seconds: list[float]
    objects: int
    """The number of objects that the image has added."""
    bytes_stored: int
    packs: int
    """The number of packs among these objects; 0 for a revision without packs."""
    shared_packs: int
    """The number of the image's packs that the store already had."""


class Store:
    """A store that the lazyfs of one revision fills."""

    def __init__(self, directory: Path, revision: str, python: str) -> None:
        directory.mkdir()
        self.path = directory / "store"
        self.revision = revision
        self._keys = ["--keys", str(directory / "keys")]
        self._lazyfs = [python, "-P", "-m", "lazyfs"]
        subprocess.run(
            [*self._lazyfs, "repo", "init", str(self.path), "--name", origin.NAME, *self._keys],
            check=True, capture_output=True,
        )  # fmt: skip

    def publish(self, layout: str, tag: str, name: str) -> Published:
        """Publishes an image of a layout under a name; returns what it has added."""
        before, packs_before = self._objects(), self.packs()
        os.sync()
        begun, used = time.monotonic(), _children()
        command = [*self._lazyfs, "publish", f"oci:{layout}:{tag}", str(self.path), *self._keys]
        command += ["--as", f"{REGISTRY}/{name}:1"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} exited {done.returncode}: {done.stderr}")
        os.sync()
        seconds, cpu = time.monotonic() - begun, _children() - used
        after, packs = self._objects(), self.packs()
        new = {path: size for path, size in after.items() if path not in before}
        row = Published(
            revision=self.revision,
            image=name,
            seconds=[seconds],
            cpu_seconds=[cpu],
            objects=len(new),
            bytes_stored=sum(new.values()),
            packs=len(packs.keys() - packs_before.keys()),
            shared_packs=len(self.packs(name).keys() & packs_before.keys()),
        )
        print(row, file=sys.stderr, flush=True)
        return row

    def _objects(self) -> dict[str, int]:
        found = {}
        for directory, _, files in os.walk(self.path / "data"):
            for name in files:
                path = os.path.join(directory, name)
                found[path] = os.lstat(path).st_size
        return found

    def packs(self, image: str = "") -> dict[bytes, int]:
        """Returns digest -> stored size of the packs of all images, or of one image."""
        if self.revision:
            return {}  # its format may be another
        store = DirectoryStore(str(self.path))
        root, read = read_revision(store).root, reader(store)
        if image:
            tree = StoredTree(read, root)
            link = tree.find(find_place(tree, f"{REGISTRY}/{image}:1"))
            assert link is not None  # to ../.flat/xx/DIGEST
            found = objects_at(root, FLAT + b"/" + link.entry.content.partition(FLAT + b"/")[2], read)
        else:
            found = walk([catalog_at(root)], read)
        packs = {one.ref.digest for one in found if one.kind == ObjectKind.PACK}
        return {digest: len(store.get(digest)) for digest in packs}

    def has(self, digest: bytes) -> bool:
        """Returns True if the store has an object, whether it is in use or not."""
        return (self.path / object_path(Digest(digest))).is_file()


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
