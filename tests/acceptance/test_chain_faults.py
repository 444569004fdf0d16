"""Every fault at every place of a real site: a read returns the right bytes, or fails by the deadline with an
error that names the fault."""

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from lazyfs.core.digest import ObjectRef
from lazyfs.core.errors import LazyfsError
from lazyfs.transport import connect
from lazyfs.transport.guard import Limits
from tests.support.counts import count
from tests.support.fault_server import WAITED_FOR, FaultServer, Misbehave
from tests.support.site import RealSite, relay_of
from tests.support.store_files import store_objects

READS = count(1, 6)
"""The number of objects that are read for each fault and place."""
QUICK = Limits(connect=1.0, silence=1.0, rate_window=1.0)

_serial = itertools.count()


class Stand:
    """The real site, and new objects in its store, which no proxy has cached yet."""

    def __init__(self, site: RealSite, store: Path) -> None:
        self.site = site
        self._store = store

    def fresh(self) -> dict[ObjectRef, bytes]:
        return store_objects(self._store, READS, 20_000, seed=next(_serial))


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    store = tmp_path_factory.mktemp("store")
    with RealSite(store) as site:
        yield Stand(site, store)


@pytest.fixture(autouse=True)
def healthy(stand: Stand) -> Iterator[None]:
    yield
    stand.site.between.misbehave(None)
    stand.site.between.forget()


@pytest.mark.parametrize("misbehave", list(Misbehave))
async def test_behind_all_proxies_another_origin_answers(
    stand: Stand, tmp_path: Path, misbehave: Misbehave
) -> None:
    site = stand.site
    node = site.node(f"{site.between.url};{site.nginx.url}", f"{site.group};DIRECT", tmp_path, limits=QUICK)
    site.between.misbehave(misbehave)
    for ref, plain in stand.fresh().items():
        assert await node.objects.fetch(ref) == plain
    report = node.fetcher.report()
    origin = next(member for member in report.members if member.name == site.between.url)
    assert origin.faults, report
    assert origin.last_fault, report


@pytest.mark.parametrize("misbehave", list(Misbehave))
async def test_behind_all_proxies_and_alone(stand: Stand, tmp_path: Path, misbehave: Misbehave) -> None:
    """The client has no other path: it gets an error by the deadline, or right bytes if squid repairs the
    fault."""
    site = stand.site
    patience = count(1, 4)
    node = site.node(site.between.url, site.group, tmp_path, patience=patience)
    site.between.misbehave(misbehave)
    for ref, plain in stand.fresh().items():
        started = time.monotonic()
        with contextlib.suppress(LazyfsError):
            assert await node.objects.fetch(ref) == plain
        assert time.monotonic() - started < patience + count(10, 1)
    while not node.fetcher.report().faults:  # the reader's deadline may end a moment before the attempt
        await trio.sleep(0.01)


@pytest.mark.parametrize("misbehave", list(Misbehave))
async def test_a_proxy_of_the_group(stand: Stand, tmp_path: Path, misbehave: Misbehave) -> None:
    site = stand.site
    with FaultServer(relay_of(site.nginx.url)) as proxy:
        chain = f"{proxy.url};{site.group};DIRECT"
        limits = QUICK if misbehave in WAITED_FOR else Limits(connect=5, silence=5)
        node = site.node(site.nginx.url, chain, tmp_path, limits=limits)
        proxy.misbehave(misbehave)
        for ref, plain in stand.fresh().items():
            assert await node.objects.fetch(ref) == plain
        report = node.fetcher.report()
        assert report.members[0].faults, report
        assert not any(member.faults for member in report.members[1:-1]), report


async def test_slow_names(stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = stand.site
    released = threading.Event()
    real = connect._addresses

    def slow(host: str, port: int, flags: int = 0) -> list[connect.Address]:
        if host == "slow.invalid" and not flags:
            released.wait()
        return real(host, port, flags)

    monkeypatch.setattr(connect, "_addresses", slow)
    try:
        node = site.node(site.nginx.url, f"http://slow.invalid:3128;{site.group}", tmp_path, limits=QUICK)
        for ref, plain in stand.fresh().items():
            assert await node.objects.fetch(ref) == plain
    finally:
        released.set()
    report = node.fetcher.report()
    assert set(report.members[0].faults) <= {"name not resolved", "no answer"}
    assert report.members[0].state == "down"


@pytest.mark.parametrize("victim", ["one", "two", "parent"])
@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_a_real_squid_dies_or_hangs(stand: Stand, tmp_path: Path, victim: str, how: str) -> None:
    site = stand.site
    squid = {"one": site.one, "two": site.two, "parent": site.parent}[victim]
    node = site.node(site.nginx.url, f"{site.group};DIRECT", tmp_path, limits=QUICK)
    for ref, plain in stand.fresh().items():
        assert await node.objects.fetch(ref) == plain
    if how == "killed":
        squid.kill()
    else:
        squid.pause()
    try:
        for _ in range(20):  # the victim is the first proxy of half of the objects, or the parent of all
            for ref, plain in stand.fresh().items():
                assert await node.objects.fetch(ref) == plain
        report = node.fetcher.report()
        assert report.faults or report.hedges_won, report
    finally:
        if how == "killed":
            squid.start()
        else:
            squid.resume()
