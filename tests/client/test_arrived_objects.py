"""Objects between their verification and their admission to the cache: a slow disk delays no reader."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import pytest
import trio

from lazyfs.client.objects import Objects
from lazyfs.core.digest import Digest, ObjectRef, object_path
from lazyfs.core.errors import BadData
from lazyfs.transport.open import open_fetcher
from tests.support.fault_server import FaultServer, of_directory
from tests.support.memory_cache import MemoryCache
from tests.support.store_files import store_objects


class SlowDisk(MemoryCache):
    """A cache that admits nothing before `open` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.admits = True

    def put(self, key: Digest, data: bytes) -> bool:
        self.open.wait(60)
        return super().put(key, data) if self.admits else False

    def put_many(self, values: Sequence[tuple[Digest, bytes]]) -> list[bool]:
        self.open.wait(60)
        return [self.put(key, data) for key, data in values]


class Site:
    """A server, a client, and its cache on a slow disk."""

    def __init__(self, directory: Path, http: Literal["pycurl", "requests"], stack: ExitStack) -> None:
        ((self.ref, self.plain),) = store_objects(directory / "store", 1, 20_000).items()
        self.server = stack.enter_context(FaultServer(of_directory(directory / "store")))
        fetcher = open_fetcher(self.server.url, http=http)
        stack.callback(fetcher.close)
        self.disk = SlowDisk()
        stack.callback(self.disk.open.set)
        self.objects = Objects(fetcher, self.disk)

    def asked(self) -> int:
        return self.server.counts()[f"/{object_path(self.ref.digest)}"]


@pytest.fixture(params=["pycurl", "requests"])
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, request.param, stack)


async def test_who_waits_for_bytes_does_not_wait_for_the_disk(site: Site) -> None:
    """Readers get an object's bytes while the cache admits nothing, with one request; those who want it in
    the cache wait until it is there."""
    ref, plain = site.ref, site.plain
    ended: list[str] = []

    async def in_the_cache() -> None:
        assert await site.objects.fetch(ref) == plain
        assert site.disk.get(ref.digest) == plain
        ended.append("in the cache")

    async def hurried() -> None:
        assert await site.objects.fetch(ref, hurried=True) == plain
        ended.append("hurried")

    with trio.fail_after(60):
        async with trio.open_nursery() as waiting:
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    waiting.start_soon(in_the_cache)
                    nursery.start_soon(hurried)
            await hurried()
            assert ended == ["hurried"] * 4
            assert not site.disk.proven
            assert site.objects.read_at_hand(ref, 1000, 50) == plain[1000:1050]
            assert site.objects.at_hand(ref) == plain
            assert not site.objects.is_at_hand(ObjectRef(ref.digest, ref.size + 1))
            site.disk.open.set()
    assert ended[4:] == ["in the cache"] * 3
    assert site.asked() == 1
    assert not site.objects.arrived


async def test_who_comes_when_the_bytes_are_here_does_not_wait_for_the_disk_either(site: Site) -> None:
    """Regression: a hurried reader of an object that had come ahead waited for a hanging disk to the end of
    its patience."""
    assert site.objects.bring(site.ref, lambda: None)
    with trio.fail_after(60):
        while site.objects.at_hand(site.ref) is None:
            await trio.sleep(0.001)
        assert await site.objects.fetch(site.ref, hurried=True) == site.plain
    assert not site.disk.proven
    site.disk.open.set()
    assert await site.objects.fetch(site.ref) == site.plain
    assert site.disk.get(site.ref.digest) == site.plain
    assert site.asked() == 1


async def test_what_the_cache_refuses_is_not_at_hand_for_ever(site: Site) -> None:
    site.disk.admits = False
    site.disk.open.set()
    assert await site.objects.fetch(site.ref) == site.plain
    assert site.objects.at_hand(site.ref) is None
    assert await site.objects.fetch(site.ref) == site.plain
    assert site.asked() == 2


async def test_bytes_that_are_wrong_are_shown_to_nobody(site: Site) -> None:
    site.disk.open.set()
    with pytest.raises(BadData):
        await site.objects.fetch(ObjectRef(site.ref.digest, site.ref.size - 1), hurried=True)
    assert not site.objects.arrived
    assert await site.objects.fetch(site.ref, hurried=True) == site.plain
