"""Makes an image's packs with other limits, by the publisher's own code, and replays the reads of a real
start on them.

Files that are too large for any of the limits are not stored. Their reads are counted with the stored size of
each chunk that was read.
"""

import json
import random
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Final, NamedTuple

from lazyfs.core import codec
from lazyfs.core.catalog.inode import Inode
from lazyfs.core.digest import Digest, sha256
from lazyfs.core.layers.merge import Merge
from lazyfs.core.layers.record import Record
from lazyfs.core.params import Params
from lazyfs.images.layer_reader import read_layer
from lazyfs.images.sources.image import Image
from lazyfs.store.ingest import Ingest
from lazyfs.store.layer_files import LayerFiles, Read

LARGEST: Final = 1 << 20
"""Size in bytes of the largest file that any of the limits puts into a pack."""
CHUNK: Final = 1 << Params().chunk_shift
"""Size in bytes of a chunk."""
_SNAPSHOT: Final = re.compile(r"^\.flat/../[0-9a-f]{64}/|^/")


class Touch(NamedTuple):
    """A read of part of an object during a start."""

    name: object
    size: int
    """Plaintext size in bytes."""
    stored: int


class Spool(LayerFiles):
    """Writes the files of a layer to a disk, in place of the ingest that would store them."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(Params(), self._pass, lambda _pack: None)
        self._file = file
        self.places: dict[int, int] = {}
        """id() of the record of a small file -> the position of its content on the disk."""
        self.chunks: dict[str, tuple[int, int]] = {}
        """Digest of a chunk of a large file, as in a trace -> its position on the disk, and its size."""

    def _pass(self, record: Record, read: Read) -> None:
        left = record.size
        while left:
            data = read(min(left, CHUNK))
            self.chunks[sha256(data).hex()] = self._file.tell(), len(data)
            self._file.write(data)
            left -= len(data)

    def add(self, record: Record, read: Read) -> None:
        if not 0 < record.size <= LARGEST:
            self._pass(record, read)
            return
        self.places[id(record)] = self._file.tell()
        self._file.write(read(record.size))

    def end(self) -> None:
        """Does nothing: no pack is open."""


class Stored:
    """A store that keeps only the sizes of the objects' frames."""

    writers = 2

    def __init__(self) -> None:
        self.sizes: dict[Digest, int] = {}

    def has(self, digest: Digest) -> bool:
        return digest in self.sizes

    def put(self, digest: Digest, frame: bytes) -> None:
        self.sizes[digest] = len(frame)


class Layers:
    """The records of an image's layers. The contents of the files are on a disk."""

    def __init__(self, image: Image, file: IO[bytes]) -> None:
        self._file = file
        self._spool = Spool(file)
        self._layers = [
            read_layer(image.layers[number].blob, parts, self._spool)
            for number, parts in image.read(range(len(image.layers)))
        ]
        self._chunk_sizes: dict[str, tuple[int, int]] = {}

    def chunk(self, digest: str) -> tuple[int, int]:
        """Returns the plaintext size and the stored size of a chunk. `digest`: as in a trace."""
        if digest not in self._chunk_sizes:
            position, size = self._spool.chunks[digest]
            self._file.seek(position)
            self._chunk_sizes[digest] = size, len(codec.encode(self._file.read(size)))
        return self._chunk_sizes[digest]

    def ingested(self, params: Params, level: int) -> tuple[Inode, Stored]:
        """Ingests the layers with these limits and this compression level.
        Returns the merged tree, and the objects that hold the small files."""
        stored = Stored()
        merge = Merge()
        with Ingest(stored, params, level=level) as ingest:
            for records in self._layers:
                files = ingest.layer()
                for record in records:
                    record.pack, record.offset = None, 0
                    if id(record) in self._spool.places:
                        self._file.seek(self._spool.places[id(record)])
                        files.add(record, self._file.read)
                files.end()
            ingest.finish()
        for records in self._layers:
            merge.start_layer()
            for record in records:
                merge.apply(record)
        return merge.root, stored


class TracedRead(NamedTuple):
    """One line of a trace."""

    path: str
    digest: str
    size: int


def trace_of(path: Path) -> list[TracedRead]:
    """Returns the reads of a trace, with paths inside the image."""
    events = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        TracedRead(_SNAPSHOT.sub("", event[2]), event[3], event[4]) for event in events if event[1] == "read"
    ]


def touched(
    reads: Iterable[TracedRead], root: Inode, stored: Stored, chunk: Callable[[str], tuple[int, int]]
) -> list[Touch]:
    """Returns the objects that the reads need, in order and with repetitions. `chunk` returns the plaintext
    size and the stored size of a chunk, by its digest in the trace."""
    found = []
    for read in reads:
        inode = find(root, read.path)
        if inode is None or not inode.size:
            continue
        if inode.pack is not None:
            found.append(Touch(inode.pack.digest, inode.pack.size, stored.sizes[inode.pack.digest]))
        elif inode.size <= LARGEST and inode.content in stored.sizes:
            found.append(Touch(inode.content, inode.size, stored.sizes[Digest(inode.content)]))
        else:  # a chunk: the trace names it
            found.append(Touch(read.digest, *chunk(read.digest)))
    return found


def find(root: Inode, path: str) -> Inode | None:
    """Returns the file at a path of the merged tree; None if there is none."""
    inode: Inode | None = root
    for part in path.encode("utf-8", "surrogateescape").split(b"/"):
        inode = inode.children.get(part) if inode is not None and inode.children is not None else None
    return inode


def waits(reads: Iterable[TracedRead], root: Inode, once: list[Touch]) -> int:
    """Returns the number of waits in a start with an empty cache: one for each object, but only one for all
    chunks of a file."""
    large = [read for read in reads if (inode := find(root, read.path)) and inode.size > LARGEST]
    return len(once) - len({read.digest for read in large}) + len({read.path for read in large})


def first(touches: Iterable[Touch]) -> list[Touch]:
    """Returns each object once, in the order of first use."""
    return list({touch.name: touch for touch in touches}.values())


def refetched(touches: Iterable[Touch], limit: int) -> int:
    """Returns the stored bytes that are fetched with an LRU cache of `limit` plaintext bytes."""
    held: OrderedDict[object, int] = OrderedDict()
    used = fetched = 0
    for touch in touches:
        if touch.name in held:
            held.move_to_end(touch.name)
            continue
        fetched += touch.stored
        used += touch.size
        held[touch.name] = touch.size
        while used > limit and len(held) > 1:
            used -= held.popitem(last=False)[1]
    return fetched


def small_files(root: Inode) -> list[Inode]:
    """Returns the files of at most 64 KiB in the merged tree, in the order of their paths."""
    found, waiting = [], [root]
    while waiting:
        directory = waiting.pop()
        for _, child in sorted((directory.children or {}).items()):
            if child.children is not None:
                waiting.append(child)
            elif child.size and child.mode >> 12 == 8 and child.size <= 64 << 10:
                found.append(child)
    return found


def random_reads(root: Inode, stored: Stored, count: int) -> list[Touch]:
    """Chooses `count` small files at random. Returns the objects that hold them, each object once."""
    chosen = random.Random(7).sample(small_files(root), count)
    return first(
        Touch(inode.pack.digest, inode.pack.size, stored.sizes[inode.pack.digest])
        if inode.pack is not None
        else Touch(inode.content, inode.size, stored.sizes[Digest(inode.content)])
        for inode in chosen
    )


def names_of(root: Inode) -> bytes:
    """Returns a digest over the contents of all small files in the merged tree. It must be the same for all
    limits."""
    return sha256(b"".join(inode.content for inode in small_files(root)))
