"""The proxy configuration for sites, tested on the real servers: objects are cached once, corrupt ones are
fetched again, and negative answers are cached."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from lazyfs.core.chain.policy import Policy
from lazyfs.core.digest import object_path
from lazyfs.core.errors import NotFound
from lazyfs.transport.fetcher import Fetcher, Request
from lazyfs.transport.open import open_fetcher
from tests.support.daemons import SITE, Daemon
from tests.support.fault_server import FaultServer, Misbehave, of_directory
from tests.support.nginx import NginxOrigin, NginxReverse
from tests.support.squid import Squid
from tests.support.store_files import object_request, store_objects
from tests.support.varnish import Varnish

FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}


class Site:
    """An origin that misbehaves on request, and one cache in front of it."""

    def __init__(self, tmp_path: Path, kind: str, stack: ExitStack) -> None:
        self.store = tmp_path / "store"
        self.objects = store_objects(self.store, 8, 100_000)
        self.origin = stack.enter_context(FaultServer(of_directory(self.store)))
        self.origin.extra_headers = FOREVER
        self.cache: Daemon
        match kind:
            case "squid":
                self.cache = Squid()
            case "nginx":
                self.cache = NginxReverse(self.origin.port)
            case _:
                self.cache = Varnish(self.origin.port)
        stack.enter_context(self.cache)
        self._forward = kind == "squid"
        self._stack = stack

    def fetcher(self) -> Fetcher:
        if self._forward:
            made = open_fetcher(self.origin.url, self.cache.url, policy=Policy())
        else:
            made = open_fetcher(self.cache.url)
        self._stack.callback(made.close)
        return made


@pytest.fixture(params=["squid", "nginx", "varnish"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, request.param, stack)


def test_an_object_is_asked_of_the_origin_once(site: Site) -> None:
    for fetcher in (site.fetcher(), site.fetcher()):
        for ref, plain in site.objects.items():
            assert fetcher.fetch(object_request(ref, 20)) == plain
    counts = site.origin.counts()
    assert set(counts.values()) == {1}
    assert len(counts) == 8


def test_simultaneous_misses_are_collapsed(site: Site) -> None:
    site.origin.latency = 0.5
    ref, plain = next(iter(site.objects.items()))
    got: list[bytes] = []
    fetchers = [site.fetcher() for _ in range(16)]
    threads = [
        threading.Thread(target=lambda f=f: got.append(f.fetch(object_request(ref, 20)))) for f in fetchers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [plain] * 16
    assert site.origin.counts() == {f"/{object_path(ref.digest)}": 1}


def test_a_poisoned_copy_is_healed_for_everybody(site: Site) -> None:
    ref, plain = next(iter(site.objects.items()))
    url = f"/{object_path(ref.digest)}"
    site.origin.faults[url] = Misbehave.FLIP
    site.origin.misbehave(None)
    page = f"{site.origin.url if site.cache.name == 'squid' else site.cache.url}{url}"
    proxies = {"http": site.cache.url} if site.cache.name == "squid" else {}
    with requests.Session() as session:
        session.trust_env = False
        poisoned = session.get(page, proxies=proxies, timeout=10).content
        assert poisoned != (site.store / url.lstrip("/")).read_bytes()
        del site.origin.faults[url]
        assert site.fetcher().fetch(object_request(ref, 20)) == plain
        healed = session.get(page, proxies=proxies, timeout=10).content
    assert healed == (site.store / url.lstrip("/")).read_bytes()


def test_the_root_probe_of_many_nodes_is_one_request(site: Site) -> None:
    site.origin.extra_headers = {"Cache-Control": "public, max-age=60"}
    for _ in range(5):
        probe = Request("metadata/2.root.json", 1000, time.monotonic() + 10, may_be_missing=True)
        with pytest.raises(NotFound):
            site.fetcher().fetch(probe)
    assert site.origin.counts() == {"/metadata/2.root.json": 1}


def test_an_error_of_the_origin_is_not_kept(site: Site) -> None:
    ref, plain = next(iter(site.objects.items()))
    site.origin.misbehave(Misbehave.S503)
    fetcher = site.fetcher()
    threading.Timer(1.0, site.origin.misbehave, [None]).start()
    assert fetcher.fetch(object_request(ref, 20)) == plain


def test_nginx_origin_serves_the_store_and_nothing_else(tmp_path: Path) -> None:
    store = tmp_path / "store"
    ref, plain = next(iter(store_objects(store, 1, 5000).items()))
    (store / "metadata").mkdir()
    (store / "metadata" / "timestamp.json").write_text("{}")
    (store / "metadata" / "1.root.json").write_text("{}")
    (store / "secret").write_text("secret")
    with NginxOrigin(store) as origin, requests.Session() as session:
        session.trust_env = False
        fetcher = open_fetcher(origin.url)
        assert fetcher.fetch(object_request(ref, 20)) == plain
        fetcher.close()
        ask: Callable[[str], requests.Response] = lambda path: session.get(origin.url + path, timeout=10)  # noqa: E731
        reply = ask(f"/{object_path(ref.digest)}")
        assert reply.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert reply.headers["ETag"]
        assert "Content-Encoding" not in reply.headers
        part = session.get(reply.url, headers={"Range": "bytes=2-5"}, timeout=10)
        assert (part.status_code, part.content) == (206, reply.content[2:6])
        again = session.get(reply.url, headers={"If-None-Match": reply.headers["ETag"]}, timeout=10)
        assert again.status_code == 304
        assert ask("/metadata/timestamp.json").headers["Cache-Control"] == "public, max-age=30"
        assert ask("/metadata/1.root.json").status_code == 200
        missing = ask("/metadata/2.root.json")
        assert (missing.status_code, missing.headers["Cache-Control"]) == (404, "public, max-age=60")
        for path in ("/secret", "/", "/data/", "/data/../secret", "/data/%2e%2e/secret", "/metadata/"):
            assert ask(path).status_code in (400, 403, 404), path
        assert session.post(reply.url, data=b"x", timeout=10).status_code == 405


def test_the_shipped_squid_conf_parses(tmp_path: Path) -> None:
    text = (SITE / "squid" / "squid.conf").read_text()
    assert "include /etc/squid/lazyfs.conf" in text
    config = tmp_path / "squid.conf"
    config.write_text(text.replace("/etc/squid/lazyfs.conf", str(SITE / "squid" / "lazyfs.conf")))
    done = subprocess.run(
        ["squid", "-k", "parse", "-f", config], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "ERROR" not in done.stderr
    assert "WARNING" not in done.stderr


def test_a_chain_of_squids(tmp_path: Path) -> None:
    store = tmp_path / "store"
    objects = store_objects(store, 8, 50_000)
    with (
        NginxOrigin(store) as origin,
        Squid() as parent,
        Squid(parent) as one,
        Squid(parent) as two,
    ):
        fetchers = [
            open_fetcher(origin.url, f"{one.url}|{two.url}"),
            open_fetcher(origin.url, f"{two.url};DIRECT"),
        ]
        for fetcher in fetchers:
            for ref, plain in objects.items():
                assert fetcher.fetch(object_request(ref, 20)) == plain
            fetcher.close()
        assert set(origin.counts().values()) == {1}
        assert {url for _, url in parent.results()} == {
            f"{origin.url}/{object_path(ref.digest)}" for ref in objects
        }
        assert one.results()
        assert two.results()
