"""The stores of the benchmark, and what is counted in them."""

import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from benchmarks.startup.images import TAG
from benchmarks.startup.origin import NAME
from benchmarks.startup.sides import REGISTRY, bubblewrap
from lazyfs.core.digest import Digest, ObjectRef, object_path
from lazyfs.core.profile import Profile, total
from lazyfs.core.reach import catalog_at, walk
from lazyfs.images.profiles.contents import ImageContents, TouchedContent
from lazyfs.images.profiles.image_files import ImageFiles
from lazyfs.images.profiles.publish import profiled_tree
from lazyfs.images.profiles.published import profile_at
from lazyfs.images.profiles.traces import read_traces
from lazyfs.repository.commit import read_revision
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import open_store, reader


def place_of(image: str, tag: str = TAG) -> str:
    """Returns the path of an image in the stores."""
    return f"{REGISTRY}/{image}:{tag}"


class BenchmarkStore(NamedTuple):
    """A store directory, and the directory of its keys."""

    path: Path
    keys: Path

    @property
    def trust(self) -> str:
        return str(self.path / "metadata/1.root.json")

    @staticmethod
    def make(path: Path, keys: Path) -> "BenchmarkStore":
        """Makes an empty repository."""
        run_lazyfs("repo", "init", str(path), "--name", NAME, "--keys", str(keys))
        return BenchmarkStore(path, keys)

    def publish(self, layout: Path, image: str, *options: str, tag: str = TAG) -> None:
        """Publishes the image with this tag in an OCI layout."""
        place = ("--as", place_of(image, tag), "--keys", str(self.keys))
        run_lazyfs("publish", f"oci:{layout}:{tag}", str(self.path), *place, *options)

    def copy(self, path: Path) -> "BenchmarkStore":
        """Returns a copy that shares the files of this store."""
        subprocess.run(["cp", "-al", str(self.path), str(path)], check=True)
        return BenchmarkStore(path, self.keys)

    def profile(self, image: str, trace: Path, tag: str = TAG) -> None:
        """Gives an image the profile of a trace."""
        run_lazyfs(
            "profile", "make", place_of(image, tag), str(trace), str(self.path), "--keys", str(self.keys)
        )

    def trace(self, command: Iterable[str], image: str, trace: Path, tag: str = TAG) -> None:
        """Writes the trace of a start to the file `trace`."""
        with tempfile.TemporaryDirectory(prefix="trace-", dir=trace.parent) as place:
            mountpoint = Path(place) / "mnt"
            mountpoint.mkdir()
            options = ("--cache", f"{place}/cache", "--trace", str(trace), "--trust", self.trust)
            run_lazyfs("mount", str(self.path), str(mountpoint), *options)
            try:
                step = bubblewrap(f"{mountpoint}/{place_of(image, tag)}", list(command))
                subprocess.run(step.argv, check=True, stdin=subprocess.DEVNULL, capture_output=True)
            finally:
                run_lazyfs("umount", str(mountpoint))

    def image(self, image: str, tag: str = TAG) -> "PublishedImage":
        """Returns an image of the newest revision."""
        store = open_store(str(self.path))
        tree = StoredTree(reader(store), read_revision(store).root)
        found, top = profiled_tree(tree, place_of(image, tag))
        profile = profile_at(found)
        return PublishedImage(self.path, tree, top, profile.profile if profile else None)


class PublishedImage(NamedTuple):
    """An image in a store, and its profile."""

    store: Path
    tree: StoredTree
    top: ObjectRef
    profile: Profile | None

    def touched(self, trace: Path) -> list[TouchedContent]:
        """Returns what a traced start touched, the catalogs that lead to it included."""
        return ImageContents(self.tree, self.top).resolve(read_traces([str(trace)]))

    def paths(self, trace: Path) -> list[str]:
        """Returns the paths of the files that a traced start touched."""
        touched = read_traces([str(trace)])
        files = ImageFiles(self.tree, self.top)
        found = [
            file.path.decode(errors="surrogateescape")
            for file in files.walk()
            if file.entry.is_file and any(part.ref.digest in touched for part in files.parts(file))
        ]
        return sorted(found)

    def listed(self) -> list[ObjectRef]:
        """Returns the small files and objects that the image's profile brings."""
        assert self.profile is not None
        return self.profile.contents()

    def wasted(self, trace: Path) -> float:
        """Returns the share of the profile's bytes that a traced start did not touch."""
        touched = {one.ref for one in self.touched(trace)}
        return total(ref for ref in self.listed() if ref not in touched) / max(total(self.listed()), 1)

    def ahead(self, trace: Path) -> float:
        """Returns the share of the objects and small files of a traced start that the profile brings."""
        listed, touched = set(self.listed()), self.touched(trace)
        return sum(one.ref in listed for one in touched) / len(touched)

    def digests(self) -> set[Digest]:
        """Returns the objects and small files of the image."""
        found = walk([catalog_at(self.top)], self.tree.read)
        return {digest for one in found for digest in (one.ref.digest, one.content) if digest is not None}

    def stored(self, touched: Iterable[TouchedContent]) -> int:
        """Returns the stored bytes of contents of the image; of a small file, its share of its pack."""
        files = ImageContents(self.tree, self.top).files
        found = 0.0
        for ref, small in touched:
            holder = files[ref.digest].ref if small else ref
            stored = (self.store / object_path(holder.digest)).stat().st_size
            found += stored * ref.size / holder.size
        return round(found)


def run_lazyfs(*arguments: str) -> None:
    """Runs a command of this checkout's lazyfs. Raises RuntimeError with its errors."""
    command = [sys.executable, "-P", "-m", "lazyfs", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"lazyfs {' '.join(arguments)} exited {done.returncode}: {done.stderr}")
