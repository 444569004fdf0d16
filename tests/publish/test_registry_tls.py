"""TLS to registries: the trusted CAs, the client's certificate, and the immediate errors for settings that
cannot work."""

import datetime
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.ports import free_port
from lazyfs.core.errors import TransportError, UsageError
from lazyfs.core.oci.manifest import Platform
from lazyfs.images.registry.certificates import Certificates
from lazyfs.images.registry.problems import explain
from lazyfs.images.registry.wire import Wire, proxy_of_environment
from lazyfs.images.sources.open import ImageOptions, open_image
from tests.support.fake_registry import FakeRegistry, fake_registry
from tests.support.oci_images import Built, entry, layer
from tests.support.tls import DAY, Authority, Pair

IMAGE = Built([layer(entry("file", data=b"content"))])


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("site"), "site CA")


@pytest.fixture(scope="module")
def server(authority: Authority) -> Pair:
    return authority.server()


@pytest.fixture
def registry(server: Pair) -> Iterator[FakeRegistry]:
    with fake_registry(server) as registry:
        registry.add(IMAGE, "v1")
        yield registry


@pytest.fixture(autouse=True)
def plain_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Pull:
    """Pulls an image, and records the pauses before retries."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def __call__(self, host: str, *, plain_http: bool = False, certs: tuple[str, ...] | None = None) -> None:
        options = ImageOptions(
            Platform("linux", "amd64"), plain_http=plain_http, pause=self.pauses.append, certs=certs
        )
        with open_image(f"docker://{host}/team/app:v1", options) as image:
            for _, parts in image.read([0]):
                assert b"".join(parts)


@pytest.fixture
def pull() -> Pull:
    return Pull()


@contextmanager
def fails(pull: Pull, message: str) -> Iterator[None]:
    """Asserts that the block fails with this message at the first try, without a retry."""
    with pytest.raises((TransportError, UsageError), match=message):
        yield
    assert pull.pauses == []


def test_an_unknown_ca_is_named_with_its_mend_and_not_tried_again(registry: FakeRegistry, pull: Pull) -> None:
    with fails(
        pull, rf"https://{registry.host}: its certificate is not trusted .*certs.d/{registry.host}/ca.crt"
    ):
        pull(registry.host)


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR"])
def test_the_environment_names_cas(
    name: str,
    registry: FakeRegistry,
    pull: Pull,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = authority.ca
    if name == "SSL_CERT_DIR":
        directory = tmp_path / "cas"
        directory.mkdir()
        (directory / "site.pem").write_bytes(authority.ca.read_bytes())
        (directory / "README").write_text("no certificate")
        place = directory
    monkeypatch.setenv(name, str(place))
    pull(registry.host)
    monkeypatch.setenv(name, str(tmp_path / "none"))
    with fails(pull, f"{name} {tmp_path}/none: No such file"):
        pull(registry.host)


def test_all_that_the_environment_names_counts(
    registry: FakeRegistry, pull: Pull, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site may name the system's bundle in one variable, and a user the site's CA in another. Both are
    trusted."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, "/etc/ssl/certs/ca-certificates.crt")
    monkeypatch.setenv("SSL_CERT_DIR", "/etc/ssl/certs")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    pull(registry.host)


def test_a_file_that_is_no_certificate_is_named(
    registry: FakeRegistry, pull: Pull, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ca.pem").write_text("hello")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with fails(pull, "SSL_CERT_FILE .* holds no certificate in PEM form"):
        pull(registry.host)


@pytest.mark.root
def test_the_systems_store_is_trusted(registry: FakeRegistry, authority: Authority, tmp_path: Path) -> None:
    """Runs in a mount namespace whose copy of Debian's CA bundle contains the site's CA."""
    store = Path("/etc/ssl/certs/ca-certificates.crt")
    bundle = tmp_path / "bundle.crt"
    bundle.write_bytes(store.read_bytes() + authority.ca.read_bytes())
    script = f'mount --make-rprivate / && mount --bind "$1" {store} && shift && exec "$@"'
    done = subprocess.run(
        [
            "unshare", "-m", "sh", "-c", script, "sh", bundle, sys.executable, "-m", "lazyfs",
            "inspect", f"docker://{registry.host}/team/app:v1",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )  # fmt: skip
    assert "linux/amd64" in done.stdout, done.stderr


@pytest.fixture
def folder(registry: FakeRegistry, tmp_path: Path) -> Path:
    """Makes the directory certs.d/HOST for the registry's host; returns it."""
    folder = tmp_path / "certs.d" / registry.host
    folder.mkdir(parents=True)
    return folder


def test_certs_d_of_podman_and_docker(
    registry: FakeRegistry, pull: Pull, authority: Authority, folder: Path
) -> None:
    (folder / "site.crt").write_bytes(authority.ca.read_bytes())
    pull(registry.host, certs=(str(folder.parent),))
    empty = folder.parent.parent / "other.d"
    (empty / registry.host).mkdir(parents=True)
    with fails(pull, "not trusted"):  # the first existing folder counts, as for podman
        pull(registry.host, certs=(str(empty), str(folder.parent)))


def test_the_users_own_certs_d(
    registry: FakeRegistry, pull: Pull, authority: Authority, tmp_path: Path
) -> None:
    own = tmp_path / ".config/containers/certs.d" / registry.host
    own.mkdir(parents=True)
    (own / "ca.crt").write_bytes(authority.ca.read_bytes())
    pull(registry.host)


def test_a_client_certificate_is_shown_to_its_registry_only(
    authority: Authority, server: Pair, pull: Pull, tmp_path: Path
) -> None:
    with fake_registry(server, authority.ca) as registry, fake_registry(server, authority.ca) as storage:
        registry.add(IMAGE, "v1")
        storage.add(IMAGE, "v1")
        folder = tmp_path / "certs.d" / registry.host
        folder.mkdir(parents=True)
        places = (str(folder.parent),)
        (folder / "ca.crt").write_bytes(authority.ca.read_bytes())
        with fails(pull, r"wants one \(certificate required\): put it into /etc/containers/certs.d"):
            pull(registry.host, certs=places)
        client = authority.client()
        (folder / "me.cert").write_bytes(client.cert.read_bytes())
        (folder / "me.key").write_bytes(client.key.read_bytes())
        pull(registry.host, certs=places)
        registry.storage = f"https://{storage.host}/v2/team/app/blobs/"
        with fails(pull, rf"https://{storage.host}: .*certificate required"):
            pull(registry.host, certs=places)
        assert storage.requests == []


def test_a_half_client_certificate_is_named(
    registry: FakeRegistry, pull: Pull, authority: Authority, folder: Path
) -> None:
    client = authority.client()
    places = (str(folder.parent),)
    (folder / "me.cert").write_bytes(client.cert.read_bytes())
    with fails(pull, r"me.cert: its key .*me.key is missing"):
        pull(registry.host, certs=places)
    (folder / "me.key").write_text("no key")
    with fails(pull, "me.cert and .*me.key: not a certificate and its key"):
        pull(registry.host, certs=places)
    (folder / "me.cert").unlink()
    with fails(pull, r"me.key: its certificate .*me.cert is missing"):
        pull(registry.host, certs=places)


@pytest.mark.parametrize(
    ("hosts", "dates", "message"),
    [
        (("other.example",), {}, "its certificate is for another name"),
        (("127.0.0.1",), {"end": -DAY / 2}, "its certificate has expired"),
        (("127.0.0.1",), {"start": DAY}, "its certificate is not valid yet"),
    ],
)
def test_certificates_that_do_not_hold(
    hosts: tuple[str, ...],
    dates: dict[str, datetime.timedelta],
    message: str,
    authority: Authority,
    pull: Pull,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    with fake_registry(authority.server("bad", hosts, **dates)) as registry, fails(pull, message):
        pull(registry.host)


def test_http_where_tls_was_meant_and_the_other_way_round(registry: FakeRegistry, pull: Pull) -> None:
    with fake_registry() as plain, fails(pull, "does not speak TLS there: give --plain-http"):
        pull(plain.host)
    with pytest.raises(TransportError):
        pull(registry.host, plain_http=True)


def test_a_tls_registry_that_is_asked_in_plain_http_by_go(pull: Pull) -> None:
    """Go's TLS servers answer a plain HTTP request with 400 and the sentence in `reason`."""
    with fake_registry() as registry:
        registry.nobody = {"manifests": 400}
        registry.reason = b"Client sent an HTTP request to an HTTPS server.\n"
        with fails(pull, "HTTPS server.: leave out --plain-http"):
            pull(registry.host, plain_http=True)


def test_a_redirect_away_from_tls_is_followed_for_what_is_hashed_only(
    registry: FakeRegistry, pull: Pull, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    with fake_registry() as plain:
        plain.add(IMAGE, "v1")
        registry.storage = f"http://{plain.host}/v2/team/app/blobs/"
        pull(registry.host)
        assert plain.count("blobs/") == 2
        registry.extra = {"Location": f"http://{plain.host}/v2/team/app/manifests/v1"}
        registry.nobody = {"manifests": 302}
        with fails(pull, f"it redirects to http://{plain.host}, without TLS: refused"):
            pull(registry.host)
        assert plain.count("manifests/") == 0


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("registry.invalid", "https://registry.invalid: Name or service not known; is the name right?"),
        (f"{'a' * 64}.example", f"https://{'a' * 64}.example: "),
    ],
)
def test_hosts_that_cannot_be(host: str, message: str, pull: Pull) -> None:
    with fails(pull, message.replace("?", r"\?")):
        pull(host)


def test_a_name_server_that_is_away_is_waited_for() -> None:
    problem = explain(socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "https://x")
    assert not problem.hopeless


def test_a_refused_connection_is_waited_for(pull: Pull) -> None:
    host = f"127.0.0.1:{free_port()}"
    with pytest.raises(TransportError, match=f"https://{host}: Connection refused, 6 times"):
        pull(host)
    assert pull.pauses == [1.0, 2.0, 4.0, 8.0, 16.0]


@pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "403 Forbidden"])
def test_a_proxy_that_makes_no_tunnel(
    status: str, pull: Pull, monkeypatch: pytest.MonkeyPatch, answering: Callable[[bytes], int]
) -> None:
    port = answering(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
    monkeypatch.setenv("https_proxy", f"http://me:secret-of-proxy@127.0.0.1:{port}")
    with fails(pull, rf"the proxy answers {status[:3]}: "):
        pull("registry.example")


def test_the_proxys_password_is_sent_to_the_proxy_only(
    registry: FakeRegistry, pull: Pull, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_registry() as proxy:
        proxy.add(IMAGE, "v1")
        monkeypatch.setenv("http_proxy", f"me:secret-of-proxy@{proxy.host}")
        monkeypatch.setenv("no_proxy", "direct.example")
        pull("registry.example", plain_http=True)
        assert proxy.requests[0] == "http://registry.example/v2/team/app/manifests/v1"
        assert {sent for _, sent in proxy.authorizations} == {""}
    assert proxy_of_environment("http://direct.example/") is None
    assert proxy_of_environment("http://other.example/") == f"http://me:secret-of-proxy@{proxy.host}"


def test_a_proxy_that_is_spoken_to_over_tls(
    registry: FakeRegistry, pull: Pull, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"https://{registry.host}")
    with fails(pull, "http://registry.example: the proxy's certificate is not trusted"):
        pull("registry.example", plain_http=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    pull("registry.example", plain_http=True)
    assert registry.requests[0] == "http://registry.example/v2/team/app/manifests/v1"


def test_a_proxy_that_does_not_speak_tls(pull: Pull, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_registry() as proxy:
        monkeypatch.setenv("http_proxy", f"https://{proxy.host}")
        with fails(pull, "http://registry.example: the proxy does not speak TLS: name it with http://"):
            pull("registry.example", plain_http=True)


def test_a_proxy_that_wants_an_account_is_not_taken_for_the_registry(
    pull: Pull, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_registry() as proxy:
        proxy.nobody = {"manifests": 407}
        monkeypatch.setenv("http_proxy", f"http://{proxy.host}")
        with fails(
            pull, r"http://registry.example: the proxy answers 407: .*http_proxy=http://USER:PASSWORD@"
        ):
            pull("registry.example", plain_http=True)
        assert len(proxy.requests) == 1


def test_a_socks_proxy_is_refused_by_name(pull: Pull, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1")
    with fails(pull, "only http:// and https:// proxies"):
        pull("registry.example")


def test_a_small_body_that_trickles_has_a_deadline(answering: Callable[[bytes], int]) -> None:
    port = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nab")
    clock = iter([0.0, 1000.0])
    wire = Wire(Certificates((), (), {}), plain_http=True, now=lambda: next(clock))
    with (
        wire.get(f"http://127.0.0.1:{port}/", {}) as reply,
        pytest.raises(TransportError, match="an answer that takes over 120 s"),
    ):
        reply.small(1000)


@pytest.fixture
def answering() -> Iterator[Callable[[bytes], int]]:
    """Yields a function that starts a server on a free port of this machine, and returns the port. The server
    sends the given bytes after the first request of each connection, and keeps the connection open."""
    sockets: list[socket.socket] = []

    def serve(listener: socket.socket, answer: bytes) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            sockets.append(connection)
            connection.recv(65536)
            connection.sendall(answer)

    def start(answer: bytes) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        sockets.append(listener)
        threading.Thread(target=serve, args=(listener, answer), daemon=True).start()
        port: int = listener.getsockname()[1]
        return port

    yield start
    for item in sockets:
        _close(item)


def _close(item: socket.socket) -> None:
    try:
        item.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    item.close()


def test_every_reason_of_openssl_has_words() -> None:
    for text in (
        "[SSL: WRONG_VERSION_NUMBER] wrong version number",
        "[SSL] record layer failure (_ssl.c:1006)",
    ):
        assert "--plain-http" in explain(ssl.SSLError(1, text), "https://r.example").text
    alert = ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required")
    assert "client.cert" in explain(alert, "https://r.example").text
