"""Connections opened ahead of requests: they are used once, never after their server has closed them, and no
request waits for them or fails because of them."""

import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from lazyfs.core.chain.chain import Chain
from lazyfs.core.chain.notation import parse_proxies
from lazyfs.core.chain.policy import Policy
from lazyfs.transport import curl_loop, spare_connections
from lazyfs.transport.attempt import Answer, Attempt
from lazyfs.transport.connect import Address
from lazyfs.transport.curl_client import CurlClient
from lazyfs.transport.curl_loop import CurlLoop
from lazyfs.transport.fetcher import never_cancelled
from lazyfs.transport.guard import Limits
from lazyfs.transport.spare_connections import MOST, SpareConnections
from tests.support.fault_server import FaultServer, Misbehave
from tests.support.until import until

BODY = b"an object"


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer({"/x": BODY}.get) as running:
        yield running


@pytest.fixture
def client() -> Iterator[CurlClient]:
    made = CurlClient(Limits())
    yield made
    made.close()


@pytest.fixture
def loop(client: CurlClient) -> Iterator[CurlLoop]:
    made = client.loop()
    yield made
    made.close()


@pytest.fixture
def spares() -> Iterator[SpareConnections]:
    made = SpareConnections()
    yield made
    made.close()


def _address(server: FaultServer) -> Address:
    return int(socket.AF_INET), ("127.0.0.1", server.port)


def _fetch(loop: CurlLoop, url: str, times: int) -> list[Answer | BaseException]:
    """Makes requests side by side; returns their outcomes."""
    attempt = Attempt(f"{url}/x", None, 100, time.monotonic() + 20)
    for _ in range(times):
        assert loop.begin(attempt, never_cancelled) is not None
    found: list[Answer | BaseException] = []
    while len(found) < times:
        found += [outcome for _, outcome in loop.advance(1.0)]
    return found


def _bodies(outcomes: list[Answer | BaseException]) -> list[bytes]:
    return [outcome.body for outcome in outcomes if isinstance(outcome, Answer)]


def test_requests_use_the_connections_that_were_opened_for_them(
    server: FaultServer, client: CurlClient, loop: CurlLoop
) -> None:
    client.expect({server.url: 3})
    until(lambda: server.connections == 3)
    assert _bodies(_fetch(loop, server.url, 3)) == [BODY] * 3
    assert server.connections == 3
    assert _bodies(_fetch(loop, server.url, 4)) == [BODY] * 4
    assert server.connections == 4


def test_idle_connections_count(server: FaultServer, client: CurlClient, loop: CurlLoop) -> None:
    _fetch(loop, server.url, 3)
    client.expect({server.url: 3})
    client.expect({server.url: 5})
    until(lambda: server.connections == 5)
    assert len(_fetch(loop, server.url, 5)) == 5
    assert server.connections == 5


def test_a_name_that_is_not_known_yet_is_looked_up_by_the_first_request(
    client: CurlClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[list[Address], int]] = []
    monkeypatch.setattr(
        SpareConnections, "open", lambda _, addresses, count: opened.append((addresses, count))
    )
    with FaultServer({"/x": BODY}.get) as server:
        url = f"http://localhost:{server.port}"
        client.expect({url: 3})
        assert opened == []
        for _ in range(2):
            attempt = Attempt(f"{url}/x", None, 100, time.monotonic() + 20)
            assert client.get(attempt, never_cancelled).body == BODY
    ((_, count),) = opened
    assert count == 3


def test_a_connection_that_the_server_has_closed_is_not_used(
    server: FaultServer, client: CurlClient, loop: CurlLoop
) -> None:
    client.expect({server.url: 2})
    until(lambda: server.connections == 2)
    server.misbehave(Misbehave.REFUSE)  # closes its connections too
    server.misbehave(None)
    assert _bodies(_fetch(loop, server.url, 2)) == [BODY] * 2
    assert server.connections == 4
    assert _count(client._spares) == 0


def test_a_closed_connection_is_dropped(spares: SpareConnections) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address: Address = int(socket.AF_INET), listener.getsockname()
        spares.open([address], 1)
        listener.accept()[0].close()
        until(lambda: spares.take(address) is None and _count(spares) == 0)


def _count(spares: SpareConnections) -> int:
    return len(spares._spares)


def test_each_is_taken_once(server: FaultServer, spares: SpareConnections) -> None:
    spares.open([_address(server)], 2)
    until(lambda: server.connections == 2)
    taken = [spares.take(_address(server)) for _ in range(3)]
    assert taken[2] is None
    assert taken[0] is not None
    assert taken[1] is not None
    assert taken[0].getpeername() == taken[1].getpeername() == ("127.0.0.1", server.port)
    for one in taken[:2]:
        assert one is not None
        one.close()


def test_another_address_has_its_own(server: FaultServer, spares: SpareConnections) -> None:
    spares.open([_address(server)], 1)
    until(lambda: server.connections == 1)
    assert spares.take((int(socket.AF_INET), ("127.0.0.1", server.port + 1))) is None


def test_old_ones_are_closed(
    server: FaultServer, spares: SpareConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    spares.open([_address(server)], 2)
    until(lambda: server.connections == 2)
    monkeypatch.setattr(spare_connections, "SECONDS", 0.0)
    time.sleep(0.01)
    assert spares.take(_address(server)) is None
    assert _count(spares) == 0


def test_an_idle_loop_closes_old_ones(
    server: FaultServer, client: CurlClient, loop: CurlLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.expect({server.url: 2})
    until(lambda: server.connections == 2)
    loop.advance(0.0)
    assert _count(client._spares) == 2
    monkeypatch.setattr(spare_connections, "SECONDS", 0.0)
    time.sleep(0.01)
    loop.advance(0.0)
    assert _count(client._spares) == 0


@pytest.mark.parametrize("wanted", [5, MOST + 40])
def test_no_more_are_opened_than_asked_for_and_than_the_bound(
    server: FaultServer, spares: SpareConnections, wanted: int
) -> None:
    for _ in range(3):
        spares.open([_address(server)], wanted)
    assert _count(spares) == min(wanted, MOST)


def test_a_server_that_refuses_or_a_node_without_descriptors_raises_nothing(
    spares: SpareConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address: Address = int(socket.AF_INET), unused.getsockname()
        spares.open([address], 2)
        until(lambda: spares.take(address) is None and _count(spares) == 0)

        def full(*_: Any) -> Any:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(socket, "socket", full)
        spares.open([address], 2)
        assert _count(spares) == 0


def test_an_address_that_cannot_be_connected_to_leaves_it_to_the_next(
    spares: SpareConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libcurl tries IPv6 first, whatever the order of the addresses."""
    tried: list[Address] = []

    def connect(_: SpareConnections, address: Address) -> bool:
        tried.append(address)
        return address[0] == socket.AF_INET

    monkeypatch.setattr(SpareConnections, "_connect", connect)
    four: Address = int(socket.AF_INET), ("192.0.2.1", 80)
    six: Address = int(socket.AF_INET6), ("2001:db8::1", 80, 0, 0)
    spares.open([four, six], 2)
    assert tried == [six, four, four]


def test_connections_that_were_idle_for_long_do_not_count(
    server: FaultServer, client: CurlClient, loop: CurlLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fetch(loop, server.url, 3)
    assert loop.idle() == 3
    monkeypatch.setattr(curl_loop, "KEPT_SECONDS", -1.0)
    assert loop.idle() == 0
    client.expect({server.url: 2})
    until(lambda: server.connections == 5)


def test_a_waiting_request_closes_old_ones(client: CurlClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: a server that serves one connection after the other waited for a request on a spare one,
    and the first mount waited for the server."""
    monkeypatch.setattr(spare_connections, "SECONDS", 0.3)
    with HTTPServer(("127.0.0.1", 0), _OneAtATime) as one:
        thread = threading.Thread(target=one.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{one.server_port}"
            client.expect({url: 3})
            answer = client.get(Attempt(f"{url}/x", None, 100, time.monotonic() + 20), never_cancelled)
            assert answer.body == BODY
        finally:
            one.shutdown()
            thread.join()


class _OneAtATime(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_: Any) -> None:
        """Logs nothing."""


def test_a_closed_client_opens_none(server: FaultServer, spares: SpareConnections) -> None:
    spares.close()
    spares.open([_address(server)], 2)
    assert _count(spares) == 0


def test_connections_do_not_stay_open_in_other_programs(
    server: FaultServer, client: CurlClient, loop: CurlLoop
) -> None:
    """Regression: pycurl makes a duplicate of the socket that `_open` returns, and child processes inherited
    this duplicate."""
    client.expect({server.url: 1})
    until(lambda: server.connections == 1)
    _fetch(loop, server.url, 2)
    inherited = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:") and not (
                fcntl.fcntl(int(name), fcntl.F_GETFD) & fcntl.FD_CLOEXEC
            ):
                inherited.append(name)
        except OSError:
            continue  # the descriptor of the listing
    assert inherited == []


def _no_random() -> float:
    return 0.5


def _chain(proxies: str) -> Chain:
    return Chain(parse_proxies(proxies), ("http://s1/r", "http://s2/r"), Policy(), _no_random)


@pytest.mark.parametrize(
    ("proxies", "expected"),
    [("DIRECT", {"http://s1/r": 8}), ("http://p1:1;http://p2:1;DIRECT", {"http://p1:1": 8})],
)
def test_the_machines_that_come_first_are_expected(proxies: str, expected: dict[str, int]) -> None:
    assert _chain(proxies).first_machines(8, 0.0) == expected


def test_a_group_shares_what_is_expected_and_the_dead_get_nothing() -> None:
    chain = _chain("http://p1:1|http://p2:1;DIRECT")
    assert set(chain.first_machines(30, 0.0)) == {"http://p1:1", "http://p2:1"}
    chain.groups[0][0].blame("refused", 0.0, 0.0)
    assert chain.first_machines(30, 0.0) == {"http://p2:1": 30}
    chain.groups[0][1].blame("refused", 0.0, 0.0)
    assert chain.first_machines(30, 0.0) == {"http://s1/r": 30}


def test_a_proxy_on_trial_is_expected_to_get_one_request() -> None:
    chain = _chain("http://p1:1;DIRECT")
    chain.groups[0][0].blame("refused", 0.0, 0.0)
    assert chain.first_machines(5, 100.0) == {"http://p1:1": 1, "http://s1/r": 4}
