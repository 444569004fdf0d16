"""The resolver returns a known address without waiting, and looks it up again in the background when it is
old."""

import threading
import time

import pytest

from lazyfs.transport import connect
from lazyfs.transport.connect import Address, Resolver
from lazyfs.transport.fetcher import never_cancelled
from lazyfs.transport.guard import Guard, Limits

OLD: list[Address] = [(2, ("192.0.2.1", 80))]
NEW: list[Address] = [(2, ("192.0.2.2", 80))]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """Returns a resolver that knows an address of `host`. Every known address counts as old."""
    made = Resolver()
    monkeypatch.setattr(connect, "_literal", lambda *_: [])
    monkeypatch.setattr(connect, "_addresses", lambda *_: OLD)
    assert made.known("host", 80) is None
    assert made.resolve("host", 80, Guard(time.monotonic() + 20, Limits(), never_cancelled)) == OLD
    monkeypatch.setattr(connect, "_FRESH", 0.0)
    return made


def test_an_old_address_is_used_while_the_name_service_is_asked(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answer = [], threading.Event()

    def slow(*place: object) -> list[Address]:
        asked.append(place)
        answer.wait(20)
        return NEW

    monkeypatch.setattr(connect, "_addresses", slow)
    for _ in range(3):
        assert resolver.known("host", 80) == OLD
    answer.set()
    until = time.monotonic() + 20
    while resolver.known("host", 80) != NEW:
        assert time.monotonic() < until
    assert asked[0] == ("host", 80)


def test_without_a_name_service_or_threads_the_old_address_stays(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", start)
        assert resolver.known("host", 80) == OLD

    failed = threading.Event()

    def fail(*_: object) -> list[Address]:
        failed.set()
        raise OSError("no such name")

    monkeypatch.setattr(connect, "_addresses", fail)
    assert resolver.known("host", 80) == OLD
    assert failed.wait(20)
    assert resolver.known("host", 80) == OLD


def test_an_address_needs_no_name_service(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Resolver().known("127.0.0.1", 8000)
    assert found == [(2, ("127.0.0.1", 8000))]
