"""A private repository behind the shipped configurations. A request without a token or certificate gets 401
or 407 and no byte of the content, whatever the caches on the way contain."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import requests

from lazyfs.core.digest import ObjectRef, object_path
from lazyfs.transport.open import open_fetcher
from lazyfs.transport.tls import Tls
from lazyfs.transport.tls_files import TlsFiles
from tests.support.daemons import SITE, Daemon
from tests.support.nginx import Nginx, NginxOrigin, NginxReverse
from tests.support.squid import ShippedSquid, Squid
from tests.support.store_files import object_request, store_objects
from tests.support.tls import Authority
from tests.support.varnish import Varnish

TOKEN = "5ad1f00d"


def write_accounts(file: Path) -> Path:
    """Writes a password file with htpasswd, as the shipped configurations require; returns its path. The only
    account is `node`."""
    made = ["htpasswd", "-n", "-b", "node", TOKEN]
    file.write_bytes(subprocess.run(made, check=True, capture_output=True).stdout)
    return file


class World:
    """A store of two objects and a timestamp, and certificates."""

    def __init__(self, directory: Path) -> None:
        self.store = directory / "store"
        self.objects = store_objects(self.store, 2, 50_000)
        (self.store / "metadata").mkdir()
        (self.store / "metadata/timestamp.json").write_text('{"secret": "of the repository"}')
        self.paths = ["metadata/timestamp.json", *(object_path(ref.digest) for ref in self.objects)]
        self.authority = Authority(directory / "ca")
        self.accounts = write_accounts(directory / "accounts")

    def origin(self, *, tls: bool) -> Nginx:
        """Returns the private origin. Without TLS, proxies on the way see its answers."""
        pair = self.authority.server()
        return Nginx(
            "private.conf",
            {
                "listen 443 ssl": "listen 443 ssl" if tls else "listen 443",
                "server_name private.example.org;": "server_name localhost;",
                "/srv/lazyfs/private": str(self.store),
                "/etc/nginx/lazyfs.pem": str(pair.cert),
                "/etc/nginx/lazyfs.key": str(pair.key),
                "/etc/nginx/nodes-ca.pem": str(self.authority.ca),
                "/etc/nginx/lazyfs-accounts": str(self.accounts),
            },
        )

    def body(self, path: str) -> bytes:
        return (self.store / path).read_bytes()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("private"))


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def named(url: str, account: str = f"node:{TOKEN}") -> str:
    """Returns a URL with an account in it."""
    return url.replace("://", f"://{account}@")


def read_all(objects: dict[ObjectRef, bytes], origin: str, proxy: str | None = None) -> None:
    """Reads all objects as a node does."""
    with closing(open_fetcher(origin, proxy)) as fetcher:
        for ref, plain in objects.items():
            assert fetcher.fetch(object_request(ref)) == plain


@pytest.mark.parametrize("kind", ["squid", "nginx", "varnish"])
def test_a_warm_cache_gives_nothing_of_a_private_origin_without_its_token(
    world: World, session: requests.Session, kind: str
) -> None:
    with ExitStack() as stack:
        origin = stack.enter_context(world.origin(tls=False))
        made: dict[str, Daemon] = {
            "squid": Squid(), "nginx": NginxReverse(origin.port), "varnish": Varnish(origin.port)
        }  # fmt: skip
        cache = stack.enter_context(made[kind])
        url = origin.url if kind == "squid" else cache.url
        proxies = {"http": cache.url} if kind == "squid" else {}
        for _ in range(2):
            read_all(world.objects, named(url), cache.url if kind == "squid" else None)
            for path in world.paths:
                answer = session.get(f"{url}/{path}", auth=("node", TOKEN), proxies=proxies, timeout=10)
                assert answer.content == world.body(path)
                assert answer.headers["Cache-Control"].startswith("private, ")
        for account in (None, ("node", "another"), ("nobody", TOKEN)):
            for path in world.paths:
                refused = session.get(f"{url}/{path}", auth=account, proxies=proxies, timeout=10)
                assert refused.status_code == 401
                assert world.body(path)[:16] not in refused.content
        assert set(origin.counts().values()) == {2, 4}  # the cache has kept nothing


@pytest.mark.parametrize("kind", ["nginx", "varnish"])
def test_a_mirror_keeps_no_answer_to_a_credential_whatever_the_origin_says_of_it(
    world: World, session: requests.Session, kind: str
) -> None:
    """The origin has the configuration for public repositories, with an account added. So it requires the
    account, but marks its answers as public."""
    account = f"server_name localhost; auth_basic lazyfs; auth_basic_user_file {world.accounts};"
    with ExitStack() as stack:
        changes = {"/srv/lazyfs/store": str(world.store), "server_name origin.example.org;": account}
        origin = stack.enter_context(Nginx("origin.conf", changes))
        mirror = NginxReverse(origin.port) if kind == "nginx" else Varnish(origin.port)
        stack.enter_context(mirror)
        read_all(world.objects, named(mirror.url))
        for path in world.paths:
            asked = session.get(f"{mirror.url}/{path}?token=x", auth=("node", TOKEN), timeout=10)
            assert asked.headers["Cache-Control"].startswith("public, ")
            for query in ("", "?token=x", "?token=y"):
                assert session.get(f"{mirror.url}/{path}{query}", timeout=10).status_code == 401


@pytest.mark.parametrize("kind", ["nginx", "varnish"])
def test_a_mirror_keeps_no_answer_to_a_query(world: World, session: requests.Session, kind: str) -> None:
    """The query of a URL may contain a token, but the cache key of the shipped mirror omits the query. So the
    mirror must not cache the answer to a URL with a query."""
    with NginxOrigin(world.store) as origin, ExitStack() as stack:
        mirror = NginxReverse(origin.port) if kind == "nginx" else Varnish(origin.port)
        stack.enter_context(mirror)
        for query in ("?token=x", "?token=x", "", ""):
            assert session.get(f"{mirror.url}/{world.paths[1]}{query}", timeout=10).status_code == 200
        assert sum(origin.counts().values()) == 3  # the last one came from the mirror


def test_a_token_or_a_certificate_opens_the_origin_directly_and_through_squid(
    world: World, session: requests.Session, tmp_path: Path
) -> None:
    session.verify = str(world.authority.ca)
    client = world.authority.client()
    stranger = Authority(tmp_path, "stranger").client()
    with world.origin(tls=True) as origin, Squid() as squid:
        url = f"https://localhost:{origin.port}"
        for proxy in (None, squid.url):
            for source, identity in ((named(url), None), (url, client)):
                files = TlsFiles(str(world.authority.ca), *(map(str, identity) if identity else ()))
                with closing(open_fetcher(source, proxy, tls=Tls(files))) as fetcher:
                    for ref, plain in world.objects.items():
                        assert fetcher.fetch(object_request(ref)) == plain
            proxies = {"https": proxy} if proxy else {}
            for certificate, status in ((None, 401), ((str(stranger.cert), str(stranger.key)), 400)):
                for path in world.paths:
                    refused = session.get(f"{url}/{path}", cert=certificate, proxies=proxies, timeout=10)
                    assert refused.status_code == status
                    assert world.body(path)[:16] not in refused.content


class AskingSquid(ShippedSquid):
    """A squid that asks clients for an account: it also has the shipped rules of accounts.conf."""

    def __init__(self) -> None:
        super().__init__(origin="localhost", tls_port=1)
        accounts = write_accounts(self.directory / "accounts")
        rules = (SITE / "squid/accounts.conf").read_text()
        for old, new in {
            "/etc/squid/lazyfs-accounts": str(accounts),
            "dstdomain private.example.org": "dstdomain localhost",
        }.items():
            assert old in rules, f"accounts.conf no longer has {old!r}"
            rules = rules.replace(old, new)
        text, found = re.subn(
            r"^(?=http_access )", lambda _: rules, self._config.read_text(), count=1, flags=re.MULTILINE
        )
        assert found
        self._config.write_text(text.replace("acl lazyfs_ports port 80", "acl lazyfs_ports port 1-65535"))


def test_a_warm_squid_that_asks_itself_gives_nothing_without_an_account(
    world: World, session: requests.Session
) -> None:
    with NginxOrigin(world.store) as origin, AskingSquid() as squid:
        url = f"http://localhost:{origin.port}"
        for _ in range(2):
            read_all(world.objects, url, named(squid.url))
        assert set(origin.counts().values()) == {1}  # squid has kept them
        for proxy in (squid.url, named(squid.url, "node:another"), named(squid.url, f"nobody:{TOKEN}")):
            for path in world.paths:
                refused = session.get(f"{url}/{path}", proxies={"http": proxy}, timeout=10)
                assert refused.status_code == 407
                assert world.body(path)[:16] not in refused.content
        assert set(origin.counts().values()) == {1}
