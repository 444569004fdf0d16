"""Concurrent fetches of several files below metadata/. In an outage, only one request at a time may try the
paths."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from lazyfs.client.trust.metadata_files import Ask, MetadataFiles
from lazyfs.core.chain.policy import Policy
from lazyfs.core.errors import NotFound, Outage
from lazyfs.transport.fetcher import never_cancelled
from lazyfs.transport.open import open_fetcher
from tests.support.fault_server import FaultServer, Misbehave

HELD = {"/metadata/a.json": b"{}", "/metadata/b.json": b"[]"}
A, B, OPTIONAL, MISSING = (
    Ask("a.json", 100),
    Ask("b.json", 100),
    Ask("c.json", 100, optional=True),
    Ask("c.json", 100),
)


class Site:
    """A server, and a fetcher of its metadata files over a chain of that server alone."""

    def __init__(self, stack: ExitStack) -> None:
        self.server = stack.enter_context(FaultServer(HELD.get))
        policy = Policy(outage_grace=0.3, probe_first=0.2, probe_max=0.5, rest=0.1)
        fetcher = open_fetcher(self.server.url, policy=policy)
        stack.callback(fetcher.close)
        self._files = MetadataFiles(fetcher)

    def get(self, *asks: Ask) -> dict[str, bytes]:
        return self._files.get(asks, time.monotonic() + 5, never_cancelled)


@pytest.fixture
def site() -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(stack)


def test_what_exists_by_name(site: Site) -> None:
    assert site.get(A, OPTIONAL, B) == {"a.json": b"{}", "b.json": b"[]"}
    assert site.get(A) == {"a.json": b"{}"}
    with pytest.raises(NotFound):
        site.get(A, MISSING)


@pytest.mark.parametrize("asks", [(A, OPTIONAL), (OPTIONAL, A), (A, B, OPTIONAL)])
def test_the_end_of_an_outage_is_found_by_requests_made_together(site: Site, asks: tuple[Ask, ...]) -> None:
    site.server.misbehave(Misbehave.REFUSE)
    for _ in range(2):
        with pytest.raises(Outage):
            site.get(*asks)
    site.server.misbehave(None)
    site.server.latency = 0.2  # the request that sweeps is answered long after the others have failed
    until = time.monotonic() + 10
    while True:
        try:
            found = site.get(*asks)
            break
        except Outage:
            assert time.monotonic() < until
    assert found == {ask.name: HELD[f"/metadata/{ask.name}"] for ask in asks if not ask.optional}
