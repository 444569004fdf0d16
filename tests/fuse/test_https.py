"""Mounts over TLS, by both sessions and both HTTP clients, and the error messages of TLS faults."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from lazyfs.system import mountpoint as points
from tests.support.cli import lazyfs, mounted, status
from tests.support.images import image, live
from tests.support.nginx import NginxOrigin, TlsOrigin
from tests.support.repository import Published
from tests.support.squid import Squid
from tests.support.tls import DAY, Authority, Pair
from tests.support.until import until

pytestmark = pytest.mark.root


class Site(NamedTuple):
    """A published store, a CA, and a certificate for each side."""

    published: Published
    authority: Authority
    server: Pair
    client: Pair

    @property
    def trust(self) -> list[str | Path]:
        return ["--trust", self.published.store / "metadata/1.root.json"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    directory = tmp_path_factory.mktemp("site")
    found = Published(directory / "r")
    found.commit(
        live(found.objects, {"lib": {"a:1": image(found.objects, {"f": b"1", "big": b"x" * 300_000})}})
    )
    authority = Authority(directory / "ca")
    return Site(found, authority, authority.server(), authority.client())


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    yield
    for mount in points.mounts():
        if mount.mountpoint.startswith(str(tmp_path)):
            points.unmount(mount.mountpoint)


@pytest.fixture(params=["requests", "pycurl"])
def http(request: pytest.FixtureRequest) -> list[str]:
    """Returns the option that selects one HTTP client by name, so that the test does not depend on which ones
    are installed."""
    return ["--http", request.param]


def refused(*arguments: str | Path, status: int) -> str:
    done = lazyfs(*arguments, check=False)
    assert done.returncode == status, done
    assert done.stderr.startswith("lazyfs: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("way", ["direct", "squid", "tls_squid"])
@pytest.mark.parametrize("identified", [False, True], ids=["anybody", "client certificate"])
def test_a_mount_over_https(
    site: Site, kind: str, http: list[str], way: str, identified: bool, tmp_path: Path
) -> None:
    options: list[str | Path] = ["--fuse", kind, *http, *site.trust, "--ca", site.authority.ca]
    if identified:
        options += ["--client-cert", site.client.cert, "--client-key", site.client.key]
    with (
        TlsOrigin(site.published.store, site.server, site.authority.ca if identified else None) as origin,
        Squid(tls=site.server if way == "tls_squid" else None) as squid,
    ):
        if way != "direct":
            options += ["--proxy", squid.url]
        with mounted(origin.url, tmp_path / "mnt", *options) as mnt:
            assert (mnt / "lib/a:1/f").read_bytes() == b"1"
            assert (mnt / "lib/a:1/big").read_bytes() == b"x" * 300_000
            assert status(mnt)["session"] == kind
        if way != "direct":
            until(lambda: {place for _, place in squid.tunnels()} == {f"localhost:{origin.port}"})


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_the_environments_cas_are_believed_from_where_they_were_named(
    site: Site, http: list[str], variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon changes its working directory to /, but must still find the CA files that the environment
    names by relative paths."""
    cas = tmp_path / "cas"
    cas.mkdir()
    shutil.copy(site.authority.ca, cas / "site.pem")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "cas/site.pem" if variable == "SSL_CERT_FILE" else "cas")
    with (
        TlsOrigin(site.published.store, site.server) as origin,
        mounted(origin.url, tmp_path / "mnt", *site.trust, *http) as mnt,
    ):
        assert (mnt / "lib/a:1/f").read_bytes() == b"1"


def test_certificates_outlast_root(site: Site, kind: str, http: list[str], open_path: Path) -> None:
    """With `--user` the daemon gives up root's rights, so it must first read the certificate files, which
    only root may read."""
    secret = open_path / "secret"
    secret.mkdir(mode=0o700)
    for file in (site.authority.ca, site.client.cert, site.client.key):
        shutil.copy(file, secret / file.name)
        (secret / file.name).chmod(0o600)
    trust = shutil.copy(site.published.store / "metadata/1.root.json", open_path)
    (open_path / "site.toml").write_text(
        f'mountpoint = "{open_path}/mnt"\ncache = "{open_path}/cache"\nuser = "nobody"\nfuse = "{kind}"\n'
        f'http = "{http[1]}"\n[repositories.r]\nurl = "https://localhost:PORT"\ntrust = "{trust}"\n'
        f'ca = "{secret}/ca.pem"\nclient_cert = "{secret}/client.pem"\nclient_key = "{secret}/client.key"\n'
    )
    (open_path / "mnt").mkdir()
    with TlsOrigin(site.published.store, site.server, site.authority.ca) as origin:
        config = open_path / "site.toml"
        config.write_text(config.read_text().replace("PORT", str(origin.port)))
        lazyfs("mount", "--config", config)
        try:
            assert (open_path / "mnt/r/lib/a:1/f").read_bytes() == b"1"  # opened after root was given up
            pid = status(open_path / "mnt")["pid"]
            assert "Uid:\t65534\t65534\t65534" in Path(f"/proc/{pid}/status").read_text()
        finally:
            lazyfs("umount", open_path / "mnt")


def test_what_cannot_succeed_is_said_at_once(site: Site, http: list[str], tmp_path: Path) -> None:
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    expired = site.authority.server("expired", start=-2 * DAY, end=-DAY)
    elsewhere = site.authority.server("elsewhere", hosts=("origin.example.org",))
    ca: list[str | Path] = ["--ca", site.authority.ca]
    with (
        TlsOrigin(site.published.store, site.server) as good,
        TlsOrigin(site.published.store, site.server, site.authority.ca) as strict,
        TlsOrigin(site.published.store, expired) as old,
        TlsOrigin(site.published.store, elsewhere) as other,
        NginxOrigin(site.published.store) as plain,
    ):
        for url, options, words in (
            (good.url, [], "certificate not trusted: localhost port PORT: unable to get local issuer"),
            (strict.url, ca, "client certificate missing or refused: localhost port PORT: it wants one"),
            (old.url, ca, "certificate not valid at this time: localhost port PORT: it has expired"),
            (other.url, ca, "certificate of another host: localhost port PORT: it is not for localhost"),
            (plain.url.replace("http:", "https:"), ca, "127.0.0.1 port PORT: it does not speak TLS there"),
            (
                good.url.replace("https:", "http:"),
                ca,
                "localhost port PORT: it speaks TLS there; write https",
            ),
        ):
            # longer than the test may take: the mount ends in time only if it does not try the fault again
            said = refused("mount", url, mnt, *site.trust, *http, *options, "--patience", "1000", status=1)
            assert words.replace("PORT", url.rpartition(":")[2]) in said
            assert "no path can work until this is mended" in said


def test_a_certificate_that_expires_under_a_mount_is_in_status_and_log(
    site: Site, http: list[str], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    expired = site.authority.server("expired", start=-2 * DAY, end=-DAY)
    options: list[str | Path] = [*site.trust, *http, "--ca", site.authority.ca, "--log", log]
    with TlsOrigin(site.published.store, site.server) as origin:
        port = origin.port
        mnt = tmp_path / "mnt"
        mnt.mkdir()
        lazyfs("mount", origin.url, mnt, *options)
    broken = TlsOrigin(site.published.store, expired, port=port)
    with broken:
        lazyfs("refresh", mnt, check=False)
        (repository,) = status(mnt)["repositories"].values()
        words = f"certificate not valid at this time: localhost port {port}: it has expired"
        assert words in repository["warning"]
        (member,) = [found for found in repository["chain"]["members"] if found["kind"] == "origin"]
        assert words in member["why"]
        assert words in lazyfs("status", mnt).stdout
        assert f"origin https://localhost:{port}: down: {words}" in log.read_text()
    lazyfs("umount", mnt)


def test_a_file_that_does_not_do_is_named(site: Site, tmp_path: Path) -> None:
    """Only two faults are tried on a mount; tests/transport/test_tls.py tries all of them."""
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    said = refused("mount", "https://localhost:1", mnt, *site.trust, "--ca", tmp_path / "no.pem", status=2)
    assert f"--ca {tmp_path}/no.pem: No such file or directory" in said
    content = site.client.key.read_text()
    cert: list[str | Path] = ["--client-cert", site.client.cert]
    said = refused("mount", "https://localhost:1", mnt, *site.trust, *cert, "--client-key", content, status=2)
    assert "--client-key: give the name of a file, not its content" in said
    assert content.splitlines()[1] not in said
    assert os.listdir(mnt) == []


def test_one_repositorys_bad_file_fails_with_it_alone(site: Site, tmp_path: Path) -> None:
    trust = site.published.store / "metadata/1.root.json"
    config = tmp_path / "site.toml"
    with TlsOrigin(site.published.store, site.server) as origin:
        config.write_text(
            f'ca = "{site.authority.ca}"\n'
            f'[repositories.good]\nurl = "{origin.url}"\ntrust = "{trust}"\n'
            f'[repositories.bad]\nurl = "{origin.url}"\ntrust = "{trust}"\nca = "{tmp_path}/none"\n'
        )
        (tmp_path / "mnt").mkdir()
        lazyfs("mount", "--config", config, tmp_path / "mnt", "--log", tmp_path / "log")
        assert (tmp_path / "mnt/good/lib/a:1/f").read_bytes() == b"1"
        with pytest.raises(OSError, match="Input/output"):
            os.stat(tmp_path / "mnt/bad")
        assert f"--ca {tmp_path}/none: No such file" in (tmp_path / "log").read_text()
        lazyfs("umount", tmp_path / "mnt")


def test_the_cache_is_pinned_over_https(site: Site, tmp_path: Path) -> None:
    tls: list[str | Path] = [
        "--ca",
        site.authority.ca,
        "--client-cert",
        site.client.cert,
        "--client-key",
        site.client.key,
    ]
    with (
        TlsOrigin(site.published.store, site.server, site.authority.ca) as origin,
        mounted(origin.url, tmp_path / "mnt", *site.trust, *tls) as mnt,
    ):
        assert "pinned" in lazyfs("cache", "pin", mnt / "lib/a:1", *tls).stdout
