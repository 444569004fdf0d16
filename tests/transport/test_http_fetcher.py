"""The proxy chain at work over real sockets: failover, healing, hedges, deadlines, cancellation."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lazyfs.core.chain.policy import Policy
from lazyfs.core.errors import BadData, DeadlineExceeded, LazyfsError, NotFound, Outage
from lazyfs.transport.fetcher import Request
from lazyfs.transport.guard import Limits
from lazyfs.transport.http import HttpFetcher
from lazyfs.transport.open import open_fetcher
from tests.support.counts import count
from tests.support.fault_server import WAITED_FOR, FaultServer, Misbehave, of_directory
from tests.support.looped import LoopedFetcher
from tests.support.store_files import object_request, store_objects
from tests.support.until import until

PATIENT = Limits(connect=5, silence=5, rate_window=5)
QUICK = Limits(connect=5, silence=1.5, rate_window=1.5)
"""For servers that have to be given up by the limits of time, before `Policy.hedge_default` overtakes them.
The honest servers beside them answer in time on a busy machine too."""


class Site:
    """Two proxies that serve a store themselves, an origin, and a fetcher that uses them."""

    def __init__(self, directory: Path, stack: ExitStack, *, looped: bool) -> None:
        self.objects = store_objects(directory, 30, 5000)
        content = of_directory(directory)
        self.one, self.two, self.origin = (
            stack.enter_context(FaultServer(content, bytes_per_second=20)) for _ in range(3)
        )
        self._stack = stack
        self._looped = looped

    def fetcher(
        self,
        proxies: str = "{one};{two};DIRECT",
        policy: Policy | None = None,
        limits: Limits = PATIENT,
    ) -> HttpFetcher | LoopedFetcher:
        chain = proxies.format(one=self.one.url, two=self.two.url)
        made = open_fetcher(self.origin.url, chain, policy=policy or Policy(), limits=limits)
        assert isinstance(made, HttpFetcher)
        if self._looped:
            looped = LoopedFetcher(made)
            self._stack.callback(looped.close)
            return looped
        self._stack.callback(made.close)
        return made


@pytest.fixture(params=["alone", "loop"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, stack, looped=request.param == "loop")


@pytest.mark.parametrize("misbehave", list(Misbehave))
def test_whatever_the_first_proxy_does_the_bytes_are_right_and_the_fault_is_named(
    site: Site, misbehave: Misbehave
) -> None:
    fetcher = site.fetcher(limits=QUICK if misbehave in WAITED_FOR else PATIENT)
    site.one.stale = b"x" * 100
    site.one.misbehave(misbehave)
    for ref, plain in list(site.objects.items())[:4]:
        assert fetcher.fetch(object_request(ref)) == plain
    report = fetcher.report()
    assert sum(report.members[0].faults.values()) > 0
    assert report.failed_requests == 0
    assert not report.members[1].faults


@pytest.mark.parametrize("misbehave", list(Misbehave))
def test_when_all_misbehave_the_error_comes_by_the_deadline(site: Site, misbehave: Misbehave) -> None:
    fetcher = site.fetcher(limits=Limits(connect=0.5, silence=0.5, rate_window=0.5))
    for server in (site.one, site.two, site.origin):
        server.misbehave(misbehave)
    ref = next(iter(site.objects))
    started = time.monotonic()
    with pytest.raises(LazyfsError) as failure:
        fetcher.fetch(object_request(ref, patience=0.7))
    assert time.monotonic() - started < 0.7 + count(10, 1)
    assert isinstance(failure.value, DeadlineExceeded | Outage | NotFound | BadData)


def test_a_poisoned_cache_heals_and_the_proxy_is_named(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    fetcher = site.fetcher("{one};{two}")
    site.one.misbehave(Misbehave.FLIP)
    with caplog.at_level(logging.WARNING, "lazyfs.chain"):
        for ref, plain in site.objects.items():
            assert fetcher.fetch(object_request(ref)) == plain
    report = fetcher.report()
    assert report.members[0].state == "liar"
    assert report.healed >= 3
    assert any("liar" in line and site.one.url in line for line in caplog.messages)
    assert len(site.one.seen) <= 8  # put aside after three wrong answers, each asked for twice
    assert all("no-cache" in seen.headers.get("cache-control", "") for seen in site.two.seen[:3])


def test_a_slow_proxy_is_overtaken_and_the_loser_ends(site: Site) -> None:
    fetcher = site.fetcher("{one};{two}", Policy(hedge_default=0.1))
    site.one.misbehave(Misbehave.TRICKLE)
    ref, plain = next(iter(site.objects.items()))
    assert fetcher.fetch(object_request(ref)) == plain
    report = fetcher.report()
    assert (report.hedges, report.hedges_won) == (1, 1)
    assert report.members[0].faults == {"overtaken by a hedge": 1}
    assert report.members[0].state == "up"  # a slow proxy is not broken


def test_a_rival_that_loses_ends_and_counts(site: Site) -> None:
    fetcher = site.fetcher("{one};{two}", Policy(hedge_default=0.05))
    site.one.latency = 1
    site.two.misbehave(Misbehave.HANG)
    ref, plain = next(iter(site.objects.items()))
    assert fetcher.fetch(object_request(ref)) == plain
    report = fetcher.report()
    assert (report.hedges, report.hedges_won) == (1, 0)
    for thread in threading.enumerate():
        if thread.name == "hedge":
            thread.join(5)
            assert not thread.is_alive()


def test_a_rival_saves_a_failing_attempt(site: Site) -> None:
    """The first attempt is given up after 3 s of silence. A rival attempt, which was started earlier, then
    delivers the bytes."""
    fetcher = site.fetcher("{one};{two}", Policy(hedge_default=1.5), Limits(connect=5, silence=3))
    site.one.misbehave(Misbehave.HANG)
    answer = site.two.content

    def once_the_first_has_failed(path: str) -> bytes | None:
        until(lambda: bool(fetcher.report().members[0].faults))
        return answer(path)

    site.two.content = once_the_first_has_failed
    ref, plain = next(iter(site.objects.items()))
    assert fetcher.fetch(object_request(ref)) == plain
    report = fetcher.report()
    assert (report.hedges, report.members[0].faults) == (1, {"no answer": 1})
    assert len(site.two.seen) == 1


class Cancelled(BaseException):
    pass


def test_cancellation_ends_pauses_too(site: Site) -> None:
    fetcher = site.fetcher("{one}")
    site.one.misbehave(Misbehave.REFUSE)
    cancelled = threading.Event()
    threading.Timer(0.5, cancelled.set).start()

    def check() -> None:
        if cancelled.is_set():
            raise Cancelled

    with pytest.raises(Cancelled):
        fetcher.fetch(object_request(next(iter(site.objects)), patience=60), check)


def test_the_root_probe_believes_404(site: Site) -> None:
    fetcher = site.fetcher()
    with pytest.raises(NotFound):
        fetcher.fetch(Request("metadata/2.root.json", 100, time.monotonic() + 5, may_be_missing=True))
    assert sum(len(server.seen) for server in (site.one, site.two, site.origin)) == 1


def test_a_lost_object_is_not_found_after_every_way_was_asked(site: Site) -> None:
    fetcher = site.fetcher()
    with pytest.raises(NotFound, match="no origin has it"):
        fetcher.fetch(Request("data/00/11", 100, time.monotonic() + 5))
    assert all(server.seen for server in (site.one, site.two, site.origin))


def test_return_of_the_only_path_is_noticed(site: Site) -> None:
    policy = Policy(outage_grace=0.3, probe_first=0.2, probe_max=0.4, rest=0.1)
    fetcher = site.fetcher("{one}", policy)
    site.one.misbehave(Misbehave.REFUSE)
    ref, plain = next(iter(site.objects.items()))
    with pytest.raises(Outage, match="connection refused"):
        fetcher.fetch(object_request(ref))
    with pytest.raises(Outage):
        fetcher.fetch(object_request(ref))
    site.one.misbehave(None)
    end = time.monotonic() + 60
    while True:
        try:
            assert fetcher.fetch(object_request(ref)) == plain
            break
        except Outage:
            assert time.monotonic() < end
    assert fetcher.report().outage_seconds == 0


def test_a_sweep_whose_reader_leaves_is_made_by_the_next_request(site: Site) -> None:
    fetcher = site.fetcher("{one}", Policy(outage_grace=0.3, probe_first=1, probe_max=60, rest=0.1))
    site.one.misbehave(Misbehave.REFUSE)
    ref, plain = next(iter(site.objects.items()))
    with pytest.raises(Outage):
        fetcher.fetch(object_request(ref))
    site.one.misbehave(Misbehave.HANG)

    def leave_when_asked() -> None:
        if site.one.seen:
            raise Cancelled

    end = time.monotonic() + 60
    while not site.one.seen:
        with pytest.raises((Outage, Cancelled)):
            fetcher.fetch(object_request(ref), leave_when_asked)
        assert time.monotonic() < end
    site.one.misbehave(None)
    assert fetcher.fetch(object_request(ref)) == plain
