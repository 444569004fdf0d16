"""Readers over a tree larger than the cache, while proxies and origins die and come back at random."""

import random
import time
from pathlib import Path

import pytest
import trio

from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import LazyfsError
from lazyfs.transport.guard import Limits
from tests.support.chaos import SEED, Chaos
from tests.support.counts import count
from tests.support.measured import Measured
from tests.support.nginx import NginxOrigin
from tests.support.site import Node, RealSite
from tests.support.squid import Squid
from tests.support.store_files import store_objects
from tests.support.until import until

SECONDS = count(6, 120)
SLACK = count(10, 1)
"""Seconds after a deadline. The limit is long in the ordinary tier, since other tests run beside it."""
READERS = 8
LEAST = 600
"""The smallest number of reads in the test, also on a slow machine. The tree has 300 objects, and the cache
holds 120."""


def _spread(node: Node) -> str:
    report = node.fetcher.report()
    return f"{report.requests} requests, {report.attempts} attempts, {report.hedges} hedges"


@pytest.mark.timeout(SECONDS + 120)
async def test_no_read_fails_while_a_path_lives(tmp_path: Path, measured: Measured) -> None:
    store = tmp_path / "store"
    held = store_objects(store, 300, 100_000)
    with RealSite(store) as site, NginxOrigin(store) as second:
        node = site.node(
            f"{site.between.url};{second.url}",
            f"{site.group};DIRECT",
            tmp_path / "cache",
            limit=12 << 20,
            limits=Limits(connect=1.0),
        )
        reads, failed = 0, []
        end = time.monotonic() + SECONDS

        def enough() -> bool:
            """Returns True once all has been tried. A slow machine restarts servers slowly, and gets 60 s
            more for the faults."""
            now = time.monotonic()
            return now >= end and reads >= LEAST and (chaos.total() > SECONDS / 4 or now >= end + 60)

        async def reader(seed: int) -> None:
            nonlocal reads
            choice = random.Random(seed)
            refs: list[ObjectRef] = list(held)
            while not enough():
                ref = choice.choice(refs)
                try:
                    plain = node.objects.at_hand(ref) or await node.objects.fetch(ref)
                except LazyfsError as error:
                    failed.append(str(error))
                else:
                    assert plain == held[ref]
                reads += 1
                await trio.sleep(0.002)

        with Chaos(site, second) as chaos:
            async with trio.open_nursery() as nursery:
                for seed in range(READERS):
                    nursery.start_soon(reader, seed)
        report = node.fetcher.report()
        stats = node.cache.stats()
    measured(
        f"chaos, seed {SEED}, {SECONDS} s: {chaos.total()} faults injected {dict(chaos.injected)}, "
        f"{reads} reads, {stats.hits} from the cache, {_spread(node)}, "
        f"{report.healed} healed, {len(failed)} failed; seen: {report.faults}"
    )
    assert not failed
    assert chaos.total() > SECONDS / 4
    assert stats.evictions > 0


async def test_all_paths_down_and_back(tmp_path: Path) -> None:
    """While all paths are down, cached objects can be read. A read of another object fails: the first ones at
    their deadlines, later ones at once. When one path is back, all reads succeed."""
    store = tmp_path / "store"
    held = store_objects(store, 40, 20_000)
    refs = list(held)
    patience = 3.0
    with RealSite(store) as site:
        node = site.node(site.nginx.url, f"{site.group};DIRECT", tmp_path / "cache", patience=patience)
        for ref in refs[:10]:
            await node.objects.fetch(ref)
        for daemon in (site.one, site.two, site.parent, site.nginx):
            daemon.kill()
        lasted = []
        for ref in refs[10:20]:
            started = time.monotonic()
            with pytest.raises(LazyfsError):
                await node.objects.fetch(ref)
            lasted.append(time.monotonic() - started)
            for cached in refs[:10]:
                assert node.objects.at_hand(cached) == held[cached]
        assert max(lasted) < patience + SLACK
        assert min(lasted) < count(2.0, 0.5)  # later reads fail at once
        site.nginx.start()
        site.one.start()
        site.parent.start()
        back = time.monotonic()
        while True:
            try:
                assert await node.objects.fetch(refs[20]) == held[refs[20]]
                break
            except LazyfsError:
                assert time.monotonic() - back < 15 + SLACK, "not within the probe interval"
                await trio.sleep(0.1)
        for ref in refs[21:]:
            assert await node.objects.fetch(ref) == held[ref]


async def test_32_readers_of_a_cold_file_ask_for_each_object_once(tmp_path: Path, measured: Measured) -> None:
    """The file has 96 objects of 1 MiB. They come through both squids and their parent, and nginx counts the
    requests."""
    store = tmp_path / "store"
    held = store_objects(store, 96, 1 << 20)
    with RealSite(store) as site:
        node = site.node(site.nginx.url, f"{site.group};DIRECT", tmp_path / "cache", limit=1 << 30)

        async def reader() -> None:
            for ref, plain in held.items():
                assert (node.objects.at_hand(ref) or await node.objects.fetch(ref)) == plain

        async with trio.open_nursery() as nursery:
            for _ in range(32):
                nursery.start_soon(reader)
        until(lambda: len(site.nginx.counts()) == len(held), 60)  # nginx logs an answer after its end
        counts = site.nginx.counts()
        report = node.fetcher.report()
    extra = report.attempts - report.requests
    measured(
        f"32 readers, 96 MiB: {_spread(node)}, {report.healed} healed; the origin saw {sum(counts.values())}"
    )
    assert report.requests == len(held)
    assert sum(counts.values()) - len(held) <= extra
    assert extra <= 0.05 * len(held)


@pytest.mark.timeout(600)
async def test_many_clients_cold_start_one_image_through_one_squid(
    tmp_path: Path, measured: Measured
) -> None:
    clients = count(20, 200)
    store = tmp_path / "store"
    held = store_objects(store, 60, 50_000)
    with RealSite(store) as site, Squid() as squid:
        nodes = [
            site.node(site.nginx.url, squid.url, tmp_path / f"cache{index}", threads=2, limit=32 << 20)
            for index in range(clients)
        ]

        async def start(node: Node) -> None:
            for ref, plain in held.items():
                assert await node.objects.fetch(ref) == plain

        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(start, node)
        counts = site.nginx.counts()
        asked = sum(node.fetcher.report().requests for node in nodes)
    ratio = sum(counts.values()) / len(held)
    measured(
        f"{clients} clients, {len(held)} objects: squid was asked {asked} times, "
        f"the origin {sum(counts.values())} times, {ratio:.3f} per object"
    )
    assert asked == clients * len(held)
    assert set(counts.values()) == {1}
