"""Whatever a proxy answers, the attempt fails with a named fault, and the next path delivers the right
bytes."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import pytest

from lazyfs.core.chain.chain import Chain
from lazyfs.core.chain.faults import AttemptFailed, Fault
from lazyfs.core.chain.notation import DIRECT
from lazyfs.core.chain.policy import Policy
from lazyfs.core.codec import open_object
from lazyfs.core.digest import ObjectRef, object_path
from lazyfs.core.errors import TransportError
from lazyfs.transport.attempt import Answer, Attempt, Client
from lazyfs.transport.connect import Resolver
from lazyfs.transport.fetcher import never_cancelled
from lazyfs.transport.guard import Guard, Limits
from lazyfs.transport.http import HttpFetcher
from lazyfs.transport.open import open_fetcher
from lazyfs.transport.race import RIVALS, Race
from lazyfs.transport.requests_client import RequestsClient
from tests.support.fault_server import FaultServer, of_directory
from tests.support.hostile_answers import ATTACKS, Attack, HostileProxy
from tests.support.looped import LoopedFetcher
from tests.support.store_files import object_request, store_objects
from tests.support.zstd_bombs import peak_of

LIMITS = Limits(connect=5.0, silence=5.0, min_rate=2048, rate_window=5.0)
QUICK = Limits(connect=5.0, silence=1.0, min_rate=2048, rate_window=1.0)
"""The limits for attacks that nothing but a limit of time ends."""
LARGE = 3 << 20


class World:
    """A store, and an honest proxy that serves it."""

    def __init__(self, directory: Path, honest: FaultServer) -> None:
        self.directory = directory
        self.honest = honest
        self.small = next(iter(store_objects(directory, 1, 5000)))
        self.large = next(iter(store_objects(directory, 1, LARGE)))

    def plain(self, ref: ObjectRef) -> bytes:
        return open_object((self.directory / object_path(ref.digest)).read_bytes(), ref)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("store")
    with FaultServer(of_directory(directory)) as honest:
        yield World(directory, honest)


Way = Literal["requests", "pycurl", "loop"]
WAYS: tuple[Way, ...] = ("requests", "pycurl", "loop")


def _fetcher(
    way: Way, world: World, proxies: str, policy: Policy, limits: Limits = LIMITS
) -> HttpFetcher | LoopedFetcher:
    library: Literal["requests", "pycurl"] = "requests" if way == "requests" else "pycurl"
    fetcher = open_fetcher(world.honest.url, proxies, policy=policy, limits=limits, http=library)
    assert isinstance(fetcher, HttpFetcher)
    return LoopedFetcher(fetcher) if way == "loop" else fetcher


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.name for attack in ATTACKS])
def test_the_attempt_fails_by_its_name_and_the_next_path_brings_the_bytes(
    world: World, attack: Attack, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    ref = world.large if attack.large else world.small
    with HostileProxy(of_directory(world.directory), attack) as proxy:
        # no rival attempt: the attack must end by the client's own limits
        policy = Policy(hedge_default=60.0)
        limits = QUICK if {Fault.SLOW, Fault.SILENT} & set(attack.faults) else LIMITS
        fetcher = _fetcher(way, world, f"{proxy.url};{world.honest.url}", policy, limits)
        request = object_request(ref, 60)
        peak = peak_of(lambda: fetcher.fetch(request))
        assert fetcher.fetch(request) == world.plain(ref)
        fetcher.close()
        report = fetcher.report()
    hostile = report.members[0]
    assert set(hostile.faults) <= set(attack.faults), hostile
    assert hostile.faults
    assert proxy.seen
    assert report.failed_requests == 0
    assert not report.members[1].faults
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert peak < 4 * ref.size + (8 << 20)


ODD = [
    ("Age: " + "9" * 5000,),
    ("Age: \u00b2",),
    ("Retry-After: " + "9" * 5000,),
    ("Content-Length: {size}", "Content-Length: {size}"),
    ("Content-Length: {size}, {size}",),
    ("Content-Length: 000{size}",),
    ("Transfer-Encoding: identity", "Content-Length: {size}"),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fields", ODD, ids=[fields[0][:30] for fields in ODD])
def test_odd_answers_that_can_be_understood_are_no_fault(
    world: World, fields: tuple[str, ...], way: Way
) -> None:
    ref = world.small

    def answer(body: bytes) -> Iterator[bytes | float]:
        lines = ["HTTP/1.1 200 OK", *(field.format(size=len(body)) for field in fields), "", ""]
        yield "\r\n".join(lines).encode("latin-1") + body

    with HostileProxy(of_directory(world.directory), Attack("odd", answer, ())) as proxy:
        fetcher = _fetcher(way, world, proxy.url, Policy())
        assert fetcher.fetch(object_request(ref, 60)) == world.plain(ref)
        fetcher.close()
        assert not fetcher.report().members[0].faults


class Broken:
    """A client that raises an undeclared exception if it is to use one certain proxy."""

    def __init__(self, error: Exception, inner: Client, proxy: str) -> None:
        self.error = error
        self.inner = inner
        self.proxy = proxy
        self.raised = 0

    def get(self, attempt: Attempt, check_cancelled: Callable[[], None]) -> Answer:
        if attempt.proxy == self.proxy:
            self.raised += 1
            raise self.error
        return self.inner.get(attempt, check_cancelled)

    def loop(self) -> None: ...

    def expect(self, urls: Mapping[str, int]) -> None: ...

    def close(self) -> None:
        self.inner.close()


UNFORESEEN = [ValueError("4300 digits"), OverflowError(), RecursionError(), AttributeError("fp"), KeyError(0)]


def _over(world: World, client: Broken) -> HttpFetcher:
    proxies = (("http://hostile.invalid:1",), (DIRECT,))
    return HttpFetcher(Chain(proxies, (world.honest.url,), Policy(), lambda: 0.5), client)


@pytest.mark.parametrize("error", UNFORESEEN, ids=lambda error: type(error).__name__)
def test_what_a_client_raises_ends_the_attempt_and_no_more(
    world: World, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    client = Broken(error, RequestsClient(LIMITS), "http://hostile.invalid:1")
    fetcher = _over(world, client)
    assert fetcher.fetch(object_request(world.small, 60)) == world.plain(world.small)
    fetcher.close()
    assert fetcher.report().members[0].faults == {"malformed HTTP": client.raised}
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [type(error)]


def test_what_the_opening_of_an_object_raises_ends_the_attempt_too(world: World) -> None:
    fetcher = _over(world, Broken(ValueError(), RequestsClient(LIMITS), "http://hostile.invalid:1"))
    answers = iter([OverflowError(), RecursionError()])

    def accept(frame: bytes) -> bytes:
        if (error := next(answers, None)) is not None:
            raise error
        return open_object(frame, world.small)

    assert fetcher.fetch(object_request(world.small, 60)._replace(accept=accept)) == world.plain(world.small)
    fetcher.close()


def test_a_node_without_memory_fails_the_read_and_blames_nobody(world: World) -> None:
    client = Broken(MemoryError(), RequestsClient(LIMITS), "http://hostile.invalid:1")
    fetcher = _over(world, client)
    with pytest.raises(TransportError, match="not enough memory"):
        fetcher.fetch(object_request(world.small, 60))
    fetcher.close()
    assert client.raised == 1
    assert all(not member.faults and member.state == "up" for member in fetcher.report().members)


def test_a_rival_in_which_an_error_comes_up_is_a_rival_that_lost(world: World) -> None:
    ended = threading.Event()

    def rival(_: Callable[[], None]) -> bytes:
        ended.set()
        raise RecursionError

    race = Race(0.0, lambda: rival)
    race.poll()
    assert ended.wait(10)
    assert race.wait(never_cancelled) is None


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Simulates a node that has reached its limit of threads."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    return monkeypatch


def test_a_rival_for_which_there_is_no_thread_is_not_waited_for(no_threads: pytest.MonkeyPatch) -> None:
    """Regression: the race waited without a deadline for a rival attempt whose thread could not be started. A
    search for a new revision never ended, and each such rival kept one of the RIVALS slots for concurrent
    rivals."""
    for _ in range(RIVALS + 1):
        race = Race(0.0, lambda: lambda _: b"too late")
        race.poll()
        assert race.wait(lambda: pytest.fail("it is waited for")) is None
    no_threads.undo()
    begun = threading.Event()
    race = Race(0.0, lambda: lambda _: begun.set())
    race.poll()
    assert begun.wait(20)


def test_a_name_is_asked_for_again_when_there_are_threads_again(no_threads: pytest.MonkeyPatch) -> None:
    """Regression: a DNS query whose thread could not be started blocked all later queries for the same
    name."""
    resolver = Resolver()
    with pytest.raises(AttemptFailed, match="can't start new thread"):
        resolver.resolve("localhost", 80, _guard())
    no_threads.undo()
    assert resolver.resolve("localhost", 80, _guard())


def _guard() -> Guard:
    return Guard(time.monotonic() + 20, LIMITS, never_cancelled)
