"""The measured process: fetches every object of a list into an empty cache, and prints the processor time
that it used, and the time that passed, in microseconds for each object.

`python process.py URL LIST CACHE WAY HTTP`. LIST has a line with digest and size for each object. WAY:
`ahead` (nobody waits for them; in batches, as a directory's small files are fetched), or a number of readers,
each of which waits for one object after the other. It uses the interfaces of `client` and `prefetch` alone,
so that it runs on other revisions too.
"""

import resource
import sys
import time
from collections.abc import Iterator

import trio

from lazyfs.client.objects import Objects
from lazyfs.core.digest import Digest, ObjectRef
from lazyfs.prefetch.queue import BYTES, PrefetchQueue
from lazyfs.transport.open import open_fetcher
from lazyfs_cache import open_cache

BATCH = 128
LIMIT = 4 << 30


def spent() -> float:
    """Returns the processor time of this process, in seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def ahead(objects: Objects, refs: list[ObjectRef]) -> None:
    queue = PrefetchQueue(objects)
    step = min(BATCH, max(BYTES // max(ref.size for ref in refs), 1))
    for start in range(0, len(refs), step):
        queue.start(refs[start : start + step])
        while not queue.idle:
            await trio.sleep(0.005)


async def readers(objects: Objects, refs: list[ObjectRef], count: int) -> None:
    left: Iterator[ObjectRef] = iter(refs)

    async def read() -> None:
        for ref in left:
            await objects.fetch(ref)

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(read)


async def main(*arguments: str) -> None:
    url, listed, cache_directory, way, http = arguments
    with open(listed, encoding="ascii") as lines:
        words = [line.split() for line in lines]
    refs = [ObjectRef(Digest(bytes.fromhex(digest)), int(size)) for digest, size in words]
    fetcher = open_fetcher(url, http=http)  # type: ignore[arg-type]
    with open_cache(cache_directory, LIMIT) as cache:
        objects = Objects(fetcher, cache)
        await objects.fetch(refs.pop())  # imports and connects
        before, began = spent(), time.perf_counter()
        if way == "ahead":
            await ahead(objects, refs)
        else:
            await readers(objects, refs, int(way))
        cpu, wall = spent() - before, time.perf_counter() - began
        here = sum(cache.size(ref.digest) == ref.size for ref in refs)
    assert here == len(refs), f"{here} of {len(refs)} objects are in the cache"
    print(cpu / len(refs) * 1e6, wall / len(refs) * 1e6)
    fetcher.close()


if __name__ == "__main__":
    sys.setswitchinterval(50e-6)
    trio.run(main, *sys.argv[1:])
