"""Both HTTP clients over TLS: a site's own CA, squid, client certificates, and the message for each
failure."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks.ports import free_port
from lazyfs.core.chain.faults import AttemptFailed, Fault
from lazyfs.transport.attempt import Attempt, Client
from lazyfs.transport.curl_client import CurlClient
from lazyfs.transport.fetcher import never_cancelled
from lazyfs.transport.guard import Limits
from lazyfs.transport.requests_client import RequestsClient
from lazyfs.transport.tls import Tls
from lazyfs.transport.tls_files import TlsFiles
from tests.support.looped import LoopedClient
from tests.support.nginx import NginxOrigin, TlsOrigin
from tests.support.squid import ShippedSquid, Squid
from tests.support.store_files import store_objects
from tests.support.tls import DAY, Authority, Pair
from tests.support.until import until

LIMITS = Limits(connect=3, silence=5, min_rate=1, rate_window=5)
Make = Callable[..., Client]


class World(NamedTuple):
    """A store of one object, a CA, and a certificate for each side."""

    store: Path
    path: str
    authority: Authority
    server: Pair
    client: Pair

    def trusting(self, *, identified: bool = False) -> Tls:
        names = (str(self.client.cert), str(self.client.key)) if identified else (None, None)
        return Tls(TlsFiles(str(self.authority.ca), *names))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    directory = tmp_path_factory.mktemp("tls")
    (directory / "store").mkdir()
    store_objects(directory / "store", 1, 50_000)
    (file,) = (directory / "store").rglob("data/??/*")
    authority = Authority(directory / "ca")
    path = str(file.relative_to(directory / "store"))
    return World(directory / "store", path, authority, authority.server(), authority.client())


@pytest.fixture(params=[RequestsClient, CurlClient, LoopedClient], ids=["requests", "pycurl", "loop"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Yields a function that makes clients; closes them all at the end."""
    with ExitStack() as stack:
        yield lambda tls=None, limits=LIMITS: stack.enter_context(closing(request.param(limits, tls=tls)))


def get(client: Client, world: World, origin: str, proxy: str | None = None) -> bytes:
    attempt = Attempt(f"{origin}/{world.path}", proxy, 1 << 20, time.monotonic() + 10)
    return client.get(attempt, never_cancelled).body


def body(world: World) -> bytes:
    return (world.store / world.path).read_bytes()


def refused(client: Client, world: World, origin: str, proxy: str | None = None) -> AttemptFailed:
    with pytest.raises(AttemptFailed) as failure:
        get(client, world, origin, proxy)
    return failure.value


@pytest.fixture(scope="module")
def origin(world: World) -> Iterator[TlsOrigin]:
    with TlsOrigin(world.store, world.server) as running:
        yield running


@pytest.fixture(scope="module")
def strict(world: World) -> Iterator[TlsOrigin]:
    """Runs an origin that requires a client certificate."""
    with TlsOrigin(world.store, world.server, clients=world.authority.ca) as running:
        yield running


@pytest.fixture(scope="module")
def plain(world: World) -> Iterator[NginxOrigin]:
    with NginxOrigin(world.store) as running:
        yield running


@pytest.fixture(scope="module")
def squid() -> Iterator[Squid]:
    with Squid() as running:
        yield running


@pytest.fixture(scope="module")
def tls_squid(world: World) -> Iterator[Squid]:
    with Squid(tls=world.server) as running:
        yield running


@pytest.fixture(params=["direct", "squid", "tls_squid"])
def proxy(request: pytest.FixtureRequest) -> str | None:
    """Returns the URL of the proxy to use; None to connect directly."""
    found: Squid | None = None if request.param == "direct" else request.getfixturevalue(request.param)
    return found.url if found else None


def test_an_origin_of_ones_own_ca(make: Make, world: World, origin: TlsOrigin, proxy: str | None) -> None:
    client = make(world.trusting())
    for _ in range(3):
        assert get(client, world, origin.url, proxy) == body(world)
    assert get(client, world, f"https://127.0.0.1:{origin.port}", proxy) == body(world)


def test_a_plain_origin_through_a_proxy_over_tls(
    make: Make, world: World, plain: NginxOrigin, tls_squid: Squid
) -> None:
    assert get(make(world.trusting()), world, plain.url, tls_squid.url) == body(world)
    until(lambda: any(url.startswith(plain.url) for _, url in tls_squid.results()))


def test_the_cas_of_a_python_package_are_not_looked_for(
    world: World, origin: TlsOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", "/nowhere")
    with closing(RequestsClient(LIMITS, tls=world.trusting())) as client:
        assert get(client, world, origin.url) == body(world)


@pytest.mark.parametrize("joined", [False, True], ids=["two files", "one file"])
def test_a_client_certificate(
    make: Make, world: World, strict: TlsOrigin, proxy: str | None, joined: bool, tmp_path: Path
) -> None:
    tls = world.trusting(identified=True)
    if joined:
        both = tmp_path / "both.pem"
        both.write_bytes(world.client.cert.read_bytes() + world.client.key.read_bytes())
        tls = Tls(TlsFiles(str(world.authority.ca), str(both)))
    assert get(make(tls), world, strict.url, proxy) == body(world)


def test_a_missing_client_certificate_is_named(
    make: Make, world: World, strict: TlsOrigin, proxy: str | None
) -> None:
    failure = refused(make(world.trusting()), world, strict.url, proxy)
    assert (failure.fault, failure.by_origin) == (Fault.IDENTITY, True)
    assert f"localhost port {strict.port}: it wants one: --client-cert FILE" in str(failure)


def test_a_client_certificate_opens_a_proxy(make: Make, world: World, strict: TlsOrigin) -> None:
    """nginx, asked for a whole URL, stands in for a proxy: Debian's squid asks for no certificates."""
    origin = "http://origin.invalid"
    assert get(make(world.trusting(identified=True)), world, origin, strict.url) == body(world)
    assert refused(make(world.trusting()), world, origin, strict.url).fault == Fault.IDENTITY


def test_a_client_certificate_of_a_stranger_is_named(make: Make, world: World, tmp_path: Path) -> None:
    """With TLS 1.2, the server refuses the certificate with an alert during the handshake."""
    stranger = Authority(tmp_path / "stranger", "stranger").client()
    tls = Tls(TlsFiles(str(world.authority.ca), str(stranger.cert), str(stranger.key)))
    with TlsOrigin(world.store, world.server, clients=world.authority.ca) as strict:
        failure = refused(make(tls), world, strict.url)
    assert failure.fault == Fault.IDENTITY
    assert "it did not accept ours (--client-cert)" in str(failure)


def test_connections_over_tls_are_kept_alive(
    make: Make, world: World, origin: TlsOrigin, squid: Squid
) -> None:
    client = make(world.trusting())
    before = len(squid.tunnels())
    for _ in range(10):
        get(client, world, origin.url, squid.url)
    client.close()
    get(make(world.trusting()), world, origin.url, squid.url)
    assert len(squid.tunnels()) - before <= 2


def test_an_untrusted_certificate(make: Make, world: World, origin: TlsOrigin, proxy: str | None) -> None:
    """With a TLS proxy, the client sees the proxy's certificate first."""
    failure = refused(make(Tls()), world, origin.url, proxy)
    over_tls = proxy is not None and proxy.startswith("https")
    port = proxy.rpartition(":")[2] if proxy and over_tls else origin.port
    assert failure.fault == Fault.UNTRUSTED
    assert failure.by_origin == (proxy is not None and not over_tls)
    assert str(failure).startswith(
        f"certificate not trusted: localhost port {port}: unable to get local issuer"
    )
    assert "--ca" in str(failure)


def test_only_the_named_ca_is_believed(
    make: Make, world: World, origin: TlsOrigin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(world.authority.ca))
    other = Authority(tmp_path / "other", "other")
    assert refused(make(Tls(TlsFiles(str(other.ca)))), world, origin.url).fault == Fault.UNTRUSTED
    assert get(make(Tls()), world, origin.url) == body(world)


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [(-2 * DAY, -DAY, "it has expired; have it renewed"), (DAY, 2 * DAY, "it is not valid yet")],
    ids=["expired", "too early"],
)
def test_a_certificate_out_of_its_time(
    make: Make, world: World, squid: Squid, start: object, end: object, words: str
) -> None:
    pair = world.authority.server("timed", start=start, end=end)  # type: ignore[arg-type]
    with TlsOrigin(world.store, pair) as origin:
        for proxy in (None, squid.url):
            failure = refused(make(world.trusting()), world, origin.url, proxy)
            assert failure.fault == Fault.EXPIRED
            assert f"localhost port {origin.port}: {words}" in str(failure)
            assert "clock" in str(failure)


@pytest.mark.parametrize("asked", ["localhost", "127.0.0.1"])
def test_a_certificate_of_another_host(make: Make, world: World, squid: Squid, asked: str) -> None:
    pair = world.authority.server("elsewhere", hosts=("origin.example.org",))
    with TlsOrigin(world.store, pair) as origin:
        for proxy in (None, squid.url):
            failure = refused(make(world.trusting()), world, f"https://{asked}:{origin.port}", proxy)
            assert failure.fault == Fault.MISNAMED
            assert f"{asked} port {origin.port}: it is not for {asked}" in str(failure)


def test_a_proxy_with_a_certificate_of_another_host(make: Make, world: World, plain: NginxOrigin) -> None:
    with Squid(tls=world.authority.server("proxy", hosts=("proxy.example.org",))) as proxy:
        failure = refused(make(world.trusting()), world, plain.url, proxy.url)
    assert (failure.fault, failure.by_origin) == (Fault.MISNAMED, False)
    assert f"localhost port {proxy.port}" in str(failure)


def test_plain_http_on_the_other_side(make: Make, world: World, plain: NginxOrigin, squid: Squid) -> None:
    for proxy in (None, squid.url):
        failure = refused(make(world.trusting()), world, f"https://localhost:{plain.port}", proxy)
        assert failure.fault == Fault.SCHEME
        assert f"localhost port {plain.port}: it does not speak TLS there; write http://" in str(failure)
    failure = refused(make(world.trusting()), world, plain.url, f"https://localhost:{squid.port}")
    assert (failure.fault, failure.by_origin) == (Fault.SCHEME, False)


def test_tls_on_the_other_side(make: Make, world: World, origin: TlsOrigin, squid: Squid) -> None:
    for proxy in (None, squid.url):
        failure = refused(make(), world, f"http://localhost:{origin.port}", proxy)
        assert (failure.fault, failure.by_origin) == (Fault.SCHEME, True)
        assert "it speaks TLS there; write https://" in str(failure)


def test_the_shipped_squid_conf_makes_tunnels_to_the_origins_only(
    make: Make, world: World, origin: TlsOrigin
) -> None:
    with ShippedSquid(origin="localhost", tls_port=origin.port) as proxy:
        client = make(world.trusting())
        assert get(client, world, origin.url, proxy.url) == body(world)
        for url in (f"https://127.0.0.1:{origin.port}", f"https://localhost:{free_port()}"):
            failure = refused(client, world, url, proxy.url)
            assert (failure.fault, failure.by_origin) == (Fault.TUNNEL, False)
            assert f"{proxy.url}: HTTP 403 to CONNECT {url.removeprefix('https://')}" in str(failure)


def test_a_tunnel_to_a_dead_origin_is_the_origins_fault(make: Make, world: World, squid: Squid) -> None:
    failure = refused(make(world.trusting()), world, f"https://localhost:{free_port()}", squid.url)
    assert failure.fault == Fault.UNAVAILABLE


class _Trickling:
    """A server that accepts a connection, then sends one byte of a TLS record every 0.05 s."""

    def __init__(self, first: bytes = b"") -> None:
        self._first = first
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        sock, _ = self._listener.accept()
        with sock:
            sock.recv(65536)
            sock.sendall(self._first)
            for byte in b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc" + bytes(10_000):
                if self._over.wait(0.05):
                    return
                try:
                    sock.sendall(bytes([byte]))
                except OSError:
                    return

    def __enter__(self) -> "_Trickling":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)
        self._listener.close()


def test_a_handshake_that_trickles_ends_by_its_limit(make: Make, world: World) -> None:
    client = make(world.trusting(), Limits(connect=0.5, silence=5))
    with _Trickling() as server:
        failure = refused(client, world, f"https://localhost:{server.port}")
    assert failure.fault == Fault.CONNECT


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["CONNECT", "handshake"])
def test_a_tunnel_that_trickles_ends_like_silence(make: Make, world: World, first: bytes) -> None:
    client = make(world.trusting(), Limits(connect=0.3, silence=0.6))
    with _Trickling(first) as proxy:
        failure = refused(client, world, "https://localhost", f"http://127.0.0.1:{proxy.port}")
    assert failure.fault == Fault.SILENT


def test_an_endless_answer_to_connect_is_cut(make: Make, world: World) -> None:
    client = make(world.trusting(), Limits(connect=5, silence=20))
    flood = b"HTTP/1.1 200 OK\r\n" + b"X-Y: %s\r\n" % (b"z" * 40_000) * 20
    with _Trickling(flood) as proxy:
        failure = refused(client, world, "https://localhost", f"http://127.0.0.1:{proxy.port}")
    assert failure.fault in (Fault.GARBLED, Fault.TUNNEL)


def test_a_handshake_hears_that_it_is_cancelled(make: Make, world: World) -> None:
    class Cancelled(BaseException):
        pass

    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked > 3:
            raise Cancelled

    client = make(world.trusting(), Limits(connect=60, silence=60))
    with _Trickling() as server, pytest.raises(Cancelled):
        client.get(Attempt(f"https://localhost:{server.port}/x", None, 10, time.monotonic() + 60), check)
