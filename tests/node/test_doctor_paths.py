"""Faults of proxies, origins, names, clocks and certificates: the doctor finds each, and blames nothing
else."""

import email.utils
import json
import os
import ssl
import time
from pathlib import Path

import pytest

from lazyfs.node.findings import Level
from tests.support.doctor import Config, found, only
from tests.support.fault_server import FaultServer, Misbehave, of_directory
from tests.support.repository import Published
from tests.support.squid import Squid
from tests.support.tls import DAY, Authority

pytestmark = pytest.mark.root


@pytest.mark.parametrize(
    ("fault", "wrong", "do"),
    [
        (Misbehave.S407, "407, the proxy wants an account", "--proxy @FILE"),
        (Misbehave.S403, "403, access refused", "http_access"),
        (Misbehave.HANG, "no answer", "restart it"),
        (Misbehave.S503, "502/503/504", "start the origin"),
        (Misbehave.PORTAL, "HTML instead of the object", "portal"),
        (Misbehave.REFUSE, "connection refused", "start the server"),
        (Misbehave.REDIRECT, "redirect", "login page"),
        (Misbehave.NOISE, "malformed HTTP", "docs/chain.md"),
    ],
)
def test_a_sick_proxy_beside_one_that_works(
    published: Published, config: Config, fault: Misbehave, wrong: str, do: str
) -> None:
    with FaultServer(of_directory(published.store)) as origin, FaultServer(lambda _: None) as sick:
        sick.misbehave(fault)
        findings = found(config(source=origin.url, proxy=f"{sick.url};DIRECT"), "paths", "clock", "names")
    only(findings, Level.ERROR, f"proxy {sick.url}: {wrong}", do)


@pytest.mark.parametrize(
    ("fault", "wrong", "do"),
    [
        (Misbehave.S404, "404", "no repository"),
        (Misbehave.S401, "401", "let readers in"),
        (Misbehave.S403, "403", "let this machine in"),
        (Misbehave.STALE, "wrong content", "correct the URL"),  # of FLIP only a signature would tell
        (Misbehave.HANG, "no answer", "restart"),
    ],
)
def test_a_sick_origin_is_named_and_no_proxy(
    published: Published, config: Config, fault: Misbehave, wrong: str, do: str
) -> None:
    with (
        FaultServer(of_directory(published.store)) as well,
        FaultServer(of_directory(published.store)) as sick,
        Squid() as squid,
    ):
        sick.misbehave(fault)
        wanted = config(source=f"{well.url};{sick.url}", proxy=f"{squid.url};DIRECT")
        findings = found(wanted, "paths", "clock", "names")
    assert findings
    for finding in findings:  # squid has an answer of its own for an origin that is silent
        assert f"origin {sick.url}" in finding.wrong
    assert any(wrong in finding.wrong and do in finding.do for finding in findings), findings


def test_an_account_is_sent_and_never_shown(published: Published, config: Config) -> None:
    with FaultServer(of_directory(published.store)) as origin:
        account = origin.url.replace("://", "://site:Sesame77@")
        assert found(config(source=account), "paths") == []
        origin.misbehave(Misbehave.S401)
        (finding,) = found(config(source=account), "paths")
        assert all("authorization" in {name.lower() for name in seen.headers} for seen in origin.seen)
    assert "Sesame77" not in finding.wrong + finding.do


def test_names_that_nobody_knows_are_said_once(config: Config) -> None:
    wanted = config(source="http://origin.invalid/x", proxy="http://squid.invalid:3128;DIRECT")
    one, two = found(wanted, "names", "paths", "clock")
    assert ("squid.invalid" in one.wrong, "origin.invalid" in two.wrong) == (True, True)
    assert "getent hosts squid.invalid" in one.do
    assert found(config(source="http://origin.invalid/x", proxy="http://127.0.0.1:9"), "names") == []


def test_a_clock_that_is_wrong_by_all_servers(published: Published, config: Config) -> None:
    with FaultServer(of_directory(published.store)) as one, FaultServer(of_directory(published.store)) as two:
        one.extra_headers = {"Date": email.utils.formatdate(time.time() + 7200, usegmt=True)}
        wanted = config(source=f"{one.url};{two.url}")
        assert found(wanted, "clock") == []  # one server may be wrong itself, so two clocks must differ
        two.extra_headers = {"Date": email.utils.formatdate(time.time() + 3600, usegmt=True)}
        findings = found(wanted, "clock")
    only(findings, Level.ERROR, "s behind the clocks of the servers", "chronyc makestep")


def test_a_signature_that_nobody_renewed(published: Published, config: Config) -> None:
    stamp = json.loads((published.store / "metadata/timestamp.json").read_bytes())
    stamp["signed"]["expires"] = "2020-01-01T00:00:00Z"
    with FaultServer(lambda _: json.dumps(stamp).encode()) as origin:
        findings = found(config(source=origin.url), "paths", "clock")
    only(findings, Level.ERROR, "expired on 2020-01-01 00:00 UTC", "lazyfs repo resign STORE")


def test_certificates(published: Published, config: Config, tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other", "other CA")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.server())
    with FaultServer(of_directory(published.store), tls=context) as origin:
        assert found(config(source=origin.url, ca=str(authority.ca)), "paths", "files") == []
        findings = found(config(source=origin.url, ca=str(other.ca)), "paths", "files")
        only(findings, Level.ERROR, "certificate not trusted", "--ca FILE")
        context.load_cert_chain(*authority.server("old", end=-DAY / 2))
        findings = found(config(source=origin.url, ca=str(authority.ca)), "paths", "files")
        only(findings, Level.ERROR, "certificate not valid at this time", "renew")
    for end, level, wrong in ((-DAY / 2, Level.ERROR, "expired on"), (DAY, Level.WARNING, "expires on")):
        cert, key = authority.server("worker", end=end)
        key.chmod(0o600)
        findings = found(config(client_cert=str(cert), client_key=str(key)), "files")
        only(findings, level, f"{cert} {wrong}", "renew it")
    client = authority.client()
    given = {"client_cert": str(client.cert), "client_key": str(client.key)}
    os.chmod(client.key, 0o644)
    only(found(config(**given), "files"), Level.WARNING, f"{client.key} holds a private key", "chmod 0600")
    os.chmod(client.key, 0o600)
    assert found(config(**given), "files") == []
    Path(client.key).unlink()
    only(found(config(**given), "files"), Level.ERROR, "--client-key", "docs/chain.md#https")


def test_a_store_that_is_not_there(config: Config, tmp_path: Path) -> None:
    only(found(config(source=str(tmp_path)), "paths"), Level.ERROR, f"origin {tmp_path}: 404", "correct")


def test_a_password_that_others_can_read(config: Config, tmp_path: Path) -> None:
    wanted = config(source="http://site:Sesame77@127.0.0.1:9/x")
    assert found(wanted, "files") == []
    (tmp_path / "site.toml").chmod(0o644)
    findings = found(wanted, "files")
    only(findings, Level.WARNING, f"{tmp_path}/site.toml holds a URL with its password", "chmod 0600")
    (tmp_path / "secret").write_text("http://site:Sesame77@127.0.0.1:9/x")
    only(found(config(source=f"@{tmp_path}/secret"), "files"), Level.WARNING, f"{tmp_path}/secret", "chmod")
