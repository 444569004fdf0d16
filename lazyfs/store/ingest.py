"""Stores file contents: a small pool of threads hashes, compresses and puts packs and chunks.

SHA-256, zstd and file writes release the GIL, so two threads keep two cores busy while a third parses the
archive. The bytes that wait for the pool are bounded, so memory does not grow with the size of an image.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from lazyfs.core import bounds, codec
from lazyfs.core.chunks import ChunkList, chunk_count
from lazyfs.core.digest import Digest, ObjectRef, sha256
from lazyfs.core.layers.record import Record
from lazyfs.core.params import Params
from lazyfs.store.layer_files import LayerFiles, Pack, Read
from lazyfs.store.protocol import ObjectSink

MAX_WAITING = 64 << 20
"""The largest number of bytes that may wait for the pool; two chunks may wait in any case."""


class _Chunked:
    """A file of several chunks that are being stored; the file's content is known once the last one is
    stored."""

    def __init__(self, record: Record, shift: int) -> None:
        self.record = record
        self.shift = shift
        self.digests: list[Digest] = [Digest(b"")] * chunk_count(record.size, shift)
        self.left = len(self.digests)


class Ingest:
    """Stores file contents and metadata for one publish. Use as a context manager; call `finish` before the
    records are used. After an error of the store, each later `add` and `finish` raises that error again."""

    def __init__(
        self, store: ObjectSink, params: Params, *, level: int = codec.LEVEL, workers: int | None = None
    ) -> None:
        """`level`: of zstd."""
        self._store = store
        self._params = params
        self._shift = params.chunk_shift
        self._level = level
        self._pool = ThreadPoolExecutor(workers or store.writers, "ingest")
        self._room = threading.Condition()
        self._waiting = 0
        self._error: BaseException | None = None
        self._packs: list[Pack] = []
        self._stored: set[Digest] = set()
        self.new_objects = 0
        self.new_bytes = 0
        """Stored (compressed) bytes of the objects that the store did not have yet."""

    def __enter__(self) -> "Ingest":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)

    def layer(self) -> LayerFiles:
        """Begins a layer, whose small files go into packs of its own."""
        return LayerFiles(self._params, self.add, self._put_pack)

    def add(self, record: Record, read: Read) -> None:
        """Stores a file in objects of its own: takes `record.size` bytes from `read`. The record's content is
        set by the time `finish` returns."""
        if not record.size:
            return
        if record.size <= 1 << self._shift:
            data = read(record.size)
            self._submit(len(data), self._store_whole, record, data)
            return
        file = _Chunked(record, self._shift)
        for index in range(len(file.digests)):
            data = read(min(1 << self._shift, record.size - (index << self._shift)))
            self._submit(len(data), self._store_chunk, file, index, data)

    def finish(self) -> None:
        """Returns when everything added is stored. Raises StoreError if a part of it could not be stored."""
        with self._room:
            self._room.wait_for(lambda: not self._waiting)
        self._check()
        for pack in self._packs:
            pack.settle()
        self._packs.clear()

    def has(self, digest: Digest) -> bool:
        """Returns True if an object is stored. The caller may then rely on it: if the store is a
        `repository.leases.LeasedObjects`, the object stays until the publisher's lease ends."""
        return digest in self._stored or self._store.has(digest)

    def put(self, plain: bytes) -> ObjectRef:
        """Stores one object and returns its digest and plaintext size."""
        ref = ObjectRef(sha256(plain), len(plain))
        self.put_named(ref, plain)
        return ref

    def put_named(self, ref: ObjectRef, plain: bytes) -> None:
        """Stores one object whose digest is known."""
        if ref.digest in self._stored:
            return
        if not self._store.has(ref.digest):
            frame = codec.encode(plain, self._level)
            self._store.put(ref.digest, frame)
            with self._room:
                self.new_objects += 1
                self.new_bytes += len(frame)
        self._stored.add(ref.digest)

    def _put_pack(self, pack: Pack) -> None:
        self._packs.append(pack)
        self._submit(pack.size, self._store_pack, pack)

    def _submit(self, size: int, job: Callable[..., None], *arguments: object) -> None:
        self._check()
        with self._room:
            self._room.wait_for(lambda: self._waiting + size <= max(MAX_WAITING, 2 << self._shift))
            self._waiting += size

        def done(future: Future[None]) -> None:
            with self._room:
                self._waiting -= size
                if not future.cancelled() and future.exception() and self._error is None:
                    self._error = future.exception()
                self._room.notify_all()

        self._pool.submit(job, *arguments).add_done_callback(done)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _store_whole(self, record: Record, data: bytes) -> None:
        record.content = self.put(data).digest

    def _store_pack(self, pack: Pack) -> None:
        plain = b"".join(pack.parts)
        pack.parts.clear()
        pack.ref = ObjectRef(sha256(plain), len(plain))
        self.put_named(pack.ref, plain)

    def _store_chunk(self, file: _Chunked, index: int, data: bytes) -> None:
        file.digests[index] = self.put(data).digest
        with self._room:
            file.left -= 1
            last = not file.left
        if last:
            if len(file.digests) <= bounds.INLINE_CHUNKS:
                file.record.content = b"".join(file.digests)
            else:
                listing = ChunkList.encode(file.digests, file.record.size, file.shift)
                file.record.content = self.put(listing).digest
            file.record.detail = file.shift
