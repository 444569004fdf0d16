"""The measured process. It fetches every object in a list from an origin, and prints the processor time and
the wall time for one object, in microseconds.

`python process.py URL LIST DIRECTORY WAY HTTP`. LIST has a line with digest and size for each object. WAY is
one of three: the name of a stage (in `STAGES`); a number of readers, which each read one object after the
other, with the complete work of a miss; or `ahead`, the same complete work without readers, in which objects
are fetched in batches, as the small files of a directory are. Ways with readers use only interfaces that
other revisions have too.
"""

import functools
import hashlib
import os
import resource
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

import lmdb
import pycurl
import trio
import zstandard
from isal import isal_zlib

from lazyfs.client.objects import Objects
from lazyfs.core.codec import frame_bound, open_object
from lazyfs.core.digest import Digest, ObjectRef, object_path
from lazyfs.transport.fetcher import Request, as_stored, never_cancelled
from lazyfs.transport.open import open_fetcher
from lazyfs_cache import open_cache

BATCH: Final = 128
"""The number of objects that `ahead` fetches in one batch. A batch is smaller if its objects exceed 32
MiB."""
IN_FLIGHT: Final = 24
TOGETHER: Final = 8
"""The number of objects that the stages admit to the cache in one call."""
LIMIT: Final = 4 << 30

Refs = list[ObjectRef]
Done = Callable[[ObjectRef, bytes], None]


def spent() -> float:
    """Returns the processor time of this process, in seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# the floor: libcurl, zstd, SHA-256, files and LMDB, with nothing around them


def floor_fetch(url: str, refs: Refs, done: Done) -> None:
    """Fetches over libcurl's multi interface, IN_FLIGHT at a time."""
    multi = pycurl.CurlMulti()
    idle = [pycurl.Curl() for _ in range(IN_FLIGHT)]
    under_way: dict[Any, tuple[ObjectRef, bytearray]] = {}
    left = deque(refs)
    while left or under_way:
        while idle and left:
            easy, ref, body = idle.pop(), left.popleft(), bytearray()
            easy.setopt(pycurl.URL, f"{url}/{object_path(ref.digest)}")
            easy.setopt(pycurl.WRITEFUNCTION, body.extend)
            under_way[easy] = ref, body
            multi.add_handle(easy)
        multi.perform()
        _, whole, failed = multi.info_read()
        assert not failed, failed
        for easy in whole:
            multi.remove_handle(easy)
            ref, body = under_way.pop(easy)
            done(ref, bytes(body))
            idle.append(easy)
        if under_way and not whole:
            multi.select(1.0)


class FloorStore:
    """Stores objects in files with a CRC-32 for each 64 KiB, and a row for each in LMDB, 16 rows in a
    transaction."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._index = lmdb.open(f"{directory}/index", map_size=1 << 28, sync=False, metasync=False)
        self._decompressor = zstandard.ZstdDecompressor()
        self._rows: list[bytes] = []

    def verify(self, ref: ObjectRef, frame: bytes) -> bytes:
        plain = self._decompressor.decompress(frame, max_output_size=ref.size)
        assert hashlib.sha256(plain).digest() == ref.digest
        return plain

    def write(self, ref: ObjectRef, plain: bytes) -> None:
        name = f"{self._directory}/{ref.digest.hex()}"
        file = os.open(f"{name}~", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(file, plain)
        for start in range(0, len(plain), 1 << 16):
            isal_zlib.crc32(plain[start : start + (1 << 16)])
        os.close(file)
        os.rename(f"{name}~", name)

    def enter(self, ref: ObjectRef) -> None:
        self._rows.append(ref.digest)
        if len(self._rows) == 16:
            with self._index.begin(write=True) as transaction:
                for key in self._rows:
                    transaction.put(key, bytes(48))
                    transaction.put(b"q" + key, bytes(16))
            self._rows.clear()


def floor(url: str, refs: Refs, directory: str, *, stages: int) -> None:
    os.makedirs(directory)
    store = FloorStore(directory)

    def done(ref: ObjectRef, frame: bytes) -> None:
        if stages > 1:
            plain = store.verify(ref, frame)
        if stages > 2:
            store.write(ref, plain)
        if stages > 3:
            store.enter(ref)

    floor_fetch(url, refs, done)


# lazyfs, one layer after the other


def loop(url: str, refs: Refs, directory: str, *, stages: int) -> None:
    """Fetches with lazyfs's chain and its loop of attempts. With two `stages` it also verifies the objects,
    with three it also admits them to a cache."""
    from lazyfs.transport.fetcher import Rest  # this revision may lack it

    fetcher = open_fetcher(url, http="pycurl")
    fetches = fetcher.loop()  # type: ignore[attr-defined]
    with open_cache(directory, LIMIT) as cache:
        left, under_way = deque(refs), 0
        arrived: list[tuple[Digest, bytes]] = []
        leases: dict[Digest, Any] = {}
        while left or under_way:
            new = [left.popleft() for _ in range(min(IN_FLIGHT - under_way, len(left)))]
            if stages > 2:
                leases.update(
                    {
                        ref.digest: lease
                        for ref, lease in zip(new, cache.claim_many([r.digest for r in new]), strict=True)
                    }
                )
            for ref in new:
                accept = functools.partial(open_object, ref=ref) if stages > 1 else as_stored
                request = Request(
                    object_path(ref.digest), frame_bound(ref.size), time.monotonic() + 30, accept=accept
                )
                fetches.begin(ref, request, never_cancelled)
            under_way += len(new)
            for ref, body in fetches.advance(1.0):
                under_way -= 1
                if isinstance(body, Rest):  # a verification, which lazyfs might run on another thread
                    body = body.run()
                if stages > 2:
                    arrived.append((ref.digest, body))
            while arrived and (len(arrived) >= TOGETHER or not left):
                assert all(cache.put_many(arrived[:TOGETHER]))
                for key, _ in arrived[:TOGETHER]:
                    leases.pop(key).release()
                del arrived[:TOGETHER]
    fetches.close()
    fetcher.close()


STAGES: Final[dict[str, Callable[[str, Refs, str], None]]] = {
    **{f"floor {stages}": functools.partial(floor, stages=stages) for stages in (1, 2, 3, 4)},
    **{f"loop {stages}": functools.partial(loop, stages=stages) for stages in (1, 2, 3)},
}


# the whole way


async def ahead(objects: Objects, refs: Refs) -> None:
    from lazyfs.prefetch.queue import PrefetchQueue  # this revision may have it elsewhere

    queue = PrefetchQueue(objects)
    step = min(BATCH, max((32 << 20) // max(ref.size for ref in refs), 1))
    for start in range(0, len(refs), step):
        queue.start(refs[start : start + step])
        while not queue.idle:
            await trio.sleep(0.005)


async def readers(objects: Objects, refs: Refs, count: int) -> None:
    left: Iterator[ObjectRef] = iter(refs)

    async def read() -> None:
        for ref in left:
            await objects.fetch(ref)

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(read)


async def whole(url: str, refs: Refs, directory: str, way: str, http: str) -> tuple[float, float]:
    fetcher = open_fetcher(url, http=http)  # type: ignore[arg-type]
    with open_cache(directory, LIMIT) as cache:
        objects = Objects(fetcher, cache)
        await objects.fetch(refs.pop())  # imports modules and connects
        before, began = spent(), time.perf_counter()
        if way == "ahead":
            await ahead(objects, refs)
        else:
            await readers(objects, refs, int(way))
        used = spent() - before, time.perf_counter() - began
        here = sum(cache.size(ref.digest) == ref.size for ref in refs)
    assert here == len(refs), f"{here} of {len(refs)} objects are in the cache"
    fetcher.close()
    return used


def main(url: str, listed: str, directory: str, way: str, http: str) -> None:
    with open(listed, encoding="ascii") as lines:
        words = [line.split() for line in lines]
    refs = [ObjectRef(Digest(bytes.fromhex(digest)), int(size)) for digest, size in words]
    if way in STAGES:
        before, began = spent(), time.perf_counter()
        STAGES[way](url, refs, directory)
        cpu, wall = spent() - before, time.perf_counter() - began
    else:
        cpu, wall = trio.run(whole, url, refs, directory, way, http)
    print(cpu / len(refs) * 1e6, wall / len(refs) * 1e6)


if __name__ == "__main__":
    sys.setswitchinterval(50e-6)  # as the daemon does
    main(*sys.argv[1:])
