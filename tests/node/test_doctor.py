"""Faults put into a machine on purpose: the doctor finds each, names its mend, and finds nothing else."""

import email.utils
import json
import os
import resource
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lazyfs.daemon.wanted_settings import WantedSettings, wanted_settings
from lazyfs.node.checks import fuse
from lazyfs.node.doctor import CHECKS, Check, examine
from lazyfs.node.findings import Finding, Level
from lazyfs.node.surroundings import Surroundings, look_around, mounts_at
from tests.support.cli import LAZYFS, lazyfs, mounted, serving, status
from tests.support.fault_server import FaultServer, Misbehave, of_directory
from tests.support.processes import frozen, gone
from tests.support.repository import Published
from tests.support.small_disks import mounted_disk
from tests.support.squid import Squid
from tests.support.tls import DAY, Authority
from tests.support.until import until

pytestmark = pytest.mark.root


def checks(*names: str) -> list[Check]:
    found = [check for check in CHECKS if check.name in names]
    assert len(found) == len(names)
    return found


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., WantedSettings]:
    """Returns a function from lines of TOML to the settings of a file that has them and a small cache."""

    def of(*lines: str, **fields: str) -> WantedSettings:
        given = {
            "source": "http://127.0.0.1:9/x",
            "cache": f"{tmp_path}/cache",
            "cache_limit": "64M",
        } | fields
        path = tmp_path / "site.toml"
        path.touch(mode=0o600)
        path.write_text("".join(f'{name} = "{value}"\n' for name, value in given.items()) + "\n".join(lines))
        return wanted_settings([str(tmp_path / "mnt")], str(path), {})

    return of


def found(wanted: WantedSettings | None, *names: str) -> list[Finding]:
    return examine(Surroundings([], [wanted] if wanted else []), checks(*names))


def only(findings: list[Finding], level: Level, wrong: str, do: str) -> None:
    """Checks that there is one finding, with these texts in it."""
    assert [finding.level for finding in findings] == [level], findings
    assert wrong in findings[0].wrong, findings
    assert do in findings[0].do, findings


def test_nothing_is_wrong_with_a_mount_that_is_well(published: Published, tmp_path: Path) -> None:
    trust = published.store / "metadata/1.root.json"
    options = ("--trust", trust, "--cache", tmp_path / "cache", "--cache-limit", "64M")
    with serving(published.store) as url, Squid() as squid:
        for proxy in ("DIRECT", squid.url):
            with mounted(url, tmp_path / "mnt", "--proxy", proxy, *options) as mnt:
                told = json.loads(lazyfs("doctor", mnt, "--json").stdout)
                assert [one for one in told if one["level"] != "note"] == []
                assert "11 checks, 1 mounts: " in lazyfs("doctor", mnt).stdout


def test_dead_frozen_and_hidden_mounts(published: Published, tmp_path: Path) -> None:
    cache = ("--cache", tmp_path / "cache")
    with (
        mounted(published.store, tmp_path / "dead", *cache) as dead,
        mounted(published.store, tmp_path / "sick", *cache) as sick,
    ):
        with covered(sick):
            hidden = examine(look_around(mounts_at(str(sick)), None), checks("mounts"))
        only(hidden, Level.WARNING, "tmpfs other is mounted over it", f"umount {sick}")
        pid = status(dead)["pid"]
        os.kill(pid, signal.SIGKILL)
        until(lambda: gone(pid))
        with frozen(status(sick)["pid"]):
            mounts = [*mounts_at(str(dead)), *mounts_at(str(sick))]
            one, two = examine(look_around(mounts, None), checks("mounts"))
            done = lazyfs("doctor", dead, check=False)
    assert (f"{dead} is dead" in one.wrong, "replaces it" in one.do) == (True, True)
    assert (f"{sick} hangs" in two.wrong, f"lazyfs umount {sick}" in two.do) == (True, True)
    assert (done.returncode, f"error: {dead} is dead" in done.stdout) == (1, True)


@contextmanager
def covered(directory: Path) -> Iterator[None]:
    """Mounts a tmpfs over a directory for the block."""
    subprocess.run(["mount", "-t", "tmpfs", "other", directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


def test_a_deaf_daemon(published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "cache")
    with there as mnt, monkeypatch.context() as elsewhere:
        elsewhere.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path / "another"))
        findings = examine(look_around(mounts_at(str(mnt)), None), checks("mounts"))
    only(findings, Level.WARNING, "its daemon tells nothing", "LAZYFS_RUNTIME_DIR")


Config = Callable[..., WantedSettings]


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
        (Misbehave.FLIP, "wrong content", "correct the URL"),
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
        assert found(wanted, "clock") == []  # one server may be wrong itself
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


def test_the_caches_disk(config: Config, tmp_path: Path) -> None:
    assert found(config(), "cache") == []
    options = ("-t", "tmpfs", "-o", "size=32M,mode=0755,nr_inodes=4", "small")
    with mounted_disk(tmp_path / "disk", *options) as disk:
        memory, small = found(config(cache=str(disk / "cache")), "cache")
        assert ("is in memory (tmpfs)" in memory.wrong, "local disk" in memory.do) == (True, True)
        assert ("its disk has 32.0 MiB in all" in small.wrong, "resize" in small.do) == (True, True)
        (disk / "other").write_bytes(bytes(31 << 20))
        full, _ = found(config(cache=str(disk), cache_limit="30M"), "cache")
        assert ("is full" in full.wrong, "--cache-keep-free" in full.do) == (True, True)
        os.truncate(disk / "other", 12 << 20)
        _, crowded = found(config(cache=str(disk), cache_limit="24M"), "cache")
        assert ("there is room for" in crowded.wrong, "limit smaller" in crowded.do) == (True, True)
        for number in range(2):
            (disk / f"{number}").touch()
        inodes, _ = found(config(cache=str(disk), cache_limit="17M"), "cache")
        assert ("has no inode left" in inodes.wrong, "remove files" in inodes.do) == (True, True)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        closed, _ = found(config(cache=str(disk), cache_limit="17M"), "cache")
        assert ("read-only" in closed.wrong, "remount,rw" in closed.do) == (True, True)


def test_a_cache_of_somebody_else(config: Config, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    os.chown(cache, 65534, 65534)
    only(found(config(), "cache"), Level.ERROR, "belongs to user 65534", "change its owner")
    os.chown(cache, 0, 0)
    only(found(config(user="nobody"), "cache"), Level.ERROR, "as user 65534", "chown -R 65534")
    cache.chmod(0o777)
    only(found(config(), "cache"), Level.ERROR, "others than user 0", "chmod go-w")
    cache.rmdir()
    cache.touch()
    only(found(config(), "cache"), Level.ERROR, "Not a directory", "--cache")


def test_a_cache_on_a_mount_of_lazyfs_itself(published: Published, config: Config, tmp_path: Path) -> None:
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "own") as mnt:
        findings = found(config(cache=str(mnt / "lib")), "cache")
    assert any("is on fuse.lazyfs" in finding.wrong for finding in findings), findings


def test_the_runtime_directory(runtime: Path) -> None:
    assert found(None, "runtime directory") == []
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(runtime / "0-1048575.sock"))
    only(found(None, "runtime directory"), Level.NOTE, "0-1048575.sock", "removes them")
    runtime.chmod(0o777)
    only(found(None, "runtime directory"), Level.ERROR, str(runtime), "chmod 0700")


def test_the_fuse_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(None, "fuse") == []
    monkeypatch.setattr(fuse, "DEVICE", str(tmp_path / "fuse"))
    only(found(None, "fuse"), Level.ERROR, "does not exist", "modprobe fuse")
    (tmp_path / "fuse").mkdir()
    only(found(None, "fuse"), Level.ERROR, "cannot be opened by user 0: Is a directory", "chmod 0666")


def shown(*prefix: str, **options: object) -> str:
    """Returns the findings of a machine without mounts, in a process with other rights."""
    script = "from lazyfs.node.doctor import *; print(*examine(Surroundings([], [])), sep='\\n')"
    command = [*prefix, sys.executable, "-c", script]
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout  # type: ignore[call-overload,no-any-return]


def test_a_root_that_may_not_mount() -> None:
    assert "CAP_SYS_ADMIN" in shown("setpriv", "--bounding-set", "-sys_admin")
    assert "CAP_SYS_ADMIN" not in shown()


def test_few_open_files() -> None:
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))  # noqa: E731
    assert "this shell may open 512 files at most" in shown(preexec_fn=limit)


def test_a_privilege_that_cannot_be_gained() -> None:
    script = "from lazyfs.node.checks.fuse import gather; print(gather(None).no_new_privileges)"
    for prefix, said in ((["setpriv", "--no-new-privs"], "True\n"), ([], "False\n")):
        command = [*prefix, sys.executable, "-c", script]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == said


def test_a_check_that_hangs_or_fails_holds_up_no_other() -> None:
    def hang(_: Surroundings) -> None:
        time.sleep(1000)

    def fail(_: Surroundings) -> None:
        raise ZeroDivisionError("nought")

    def well(_: Surroundings) -> int:
        return 5

    def judge(_: object) -> list[Finding]:
        return [Finding(Level.ERROR, "judged", "do")]

    made = [Check(one.__name__, int, one, judge) for one in (hang, fail, well)]
    findings = examine(Surroundings([], []), made, seconds=3)
    assert [finding.check for finding in findings] == ["well", "hang", "fail"]
    assert "did not end in 3 s" in findings[1].wrong
    assert "ZeroDivisionError: nought" in findings[2].wrong


def test_wrong_places_are_refused(tmp_path: Path) -> None:
    done = subprocess.run([*LAZYFS, "doctor", tmp_path], check=False, capture_output=True, text=True)
    assert (done.returncode, "is no mount of lazyfs" in done.stderr) == (2, True)
