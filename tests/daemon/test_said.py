"""The output of the commands, and the answers of the daemon, for each user."""

import hashlib
import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ports import free_port
from lazyfs.core.errors import UsageError
from lazyfs.daemon import control_client
from lazyfs.daemon.session_choice import make_session, prepare
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.session import MountOptions
from lazyfs.system.bounded_look import ask_one
from lazyfs.system.mount_table import Mount
from lazyfs.vfs.slots import SlotTable
from lazyfs.vfs.tree import Tree
from tests.support.cli import LAZYFS, lazyfs, mounted, serving, status
from tests.support.fault_server import FaultServer, Misbehave, of_directory
from tests.support.processes import frozen
from tests.support.repository import Published
from tests.support.until import until

pytestmark = pytest.mark.root


def asked_as(user: int, mount: Mount, request: Mapping[str, Any]) -> Any:
    """Asks a daemon as another user; returns the fields of the answer, or the text of the refusal."""

    def ask() -> Any:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        try:
            return control_client.ask(mount, request).fields
        except UsageError as error:
            return str(error)

    return ask_one(ask, 30).value


@pytest.fixture
def mnt(tmp_path: Path) -> Path:
    (tmp_path / "mnt").mkdir()
    return tmp_path / "mnt"


def test_a_mount_over_files_says_that_it_hides_them(published: Published, mnt: Path, tmp_path: Path) -> None:
    (mnt / "left").touch()
    said = lazyfs("mount", published.store, mnt, "--cache", tmp_path / "cache").stderr
    assert f"{mnt} is not empty" in said
    lazyfs("umount", mnt)
    (mnt / "left").unlink()
    assert lazyfs("mount", published.store, mnt, "--cache", tmp_path / "cache").stderr == ""


def test_what_a_shared_cache_does_not_take_is_said(published: Published, mnt: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    cache = ("--cache", tmp_path / "cache")
    wanted = ("--cache-limit", "200M", "--cache-policy", "sieve")
    assert lazyfs("mount", published.store, mnt, *cache, "--cache-limit", "100M").stderr == ""
    said = lazyfs("mount", published.store, tmp_path / "other", *cache, *wanted).stderr
    assert "--cache-limit 200M is not taken" in said
    assert "100.0 MiB" in said
    assert "--cache-policy sieve is not taken" in said
    lazyfs("umount", tmp_path / "other")
    assert lazyfs("mount", published.store, tmp_path / "other", *cache).stderr == ""


@pytest.mark.parametrize("client", ["requests", "pycurl"])
@pytest.mark.parametrize(
    ("who", "fault", "said"),
    [
        ("proxy", Misbehave.S407, "407, the proxy wants an account"),
        ("proxy", Misbehave.S403, "403, access refused"),
        ("origin", Misbehave.S401, "401, the server wants an account"),
        ("origin", Misbehave.S403, "403, access refused"),
    ],
)
def test_a_mount_names_the_refusal_and_who_gave_it(
    published: Published, mnt: Path, tmp_path: Path, who: str, fault: Misbehave, said: str, client: str
) -> None:
    options = ["--cache", str(tmp_path / "cache"), "--patience", "3", "--http", client]
    options += ["--trust", str(published.store / "metadata/1.root.json")]
    with FaultServer(of_directory(published.store)) as server:
        server.fault = fault
        way = [server.url] if who == "origin" else ["http://origin.invalid/r"]
        if who == "proxy":
            options += ["--proxy", server.url]
        done = lazyfs("mount", *way, mnt, *options, check=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert server.url in done.stderr


def test_a_mount_with_another_fingerprint_names_both_and_the_option(
    published: Published, mnt: Path, tmp_path: Path
) -> None:
    wrong = "ab" * 32
    right = hashlib.sha256((published.store / "metadata/1.root.json").read_bytes()).hexdigest()
    with serving(published.store) as url:
        done = lazyfs("mount", url, mnt, "--trust", wrong, "--cache", tmp_path / "cache", check=False)
    assert done.returncode == 1
    for word in ("--trust", wrong, right, "lazyfs repo show STORE"):
        assert word in done.stderr


@pytest.mark.parametrize(("tail", "said"), [("/wrong", "404"), ("", "connection refused")])
def test_a_first_mount_by_a_wrong_url_names_it_and_how_to_try_it(
    published: Published, mnt: Path, tmp_path: Path, tail: str, said: str
) -> None:
    options = ("--cache", tmp_path / "cache", "--patience", "3")
    with serving(published.store) as served:
        url = served + tail if tail else f"http://127.0.0.1:{free_port()}"
        trust = published.store / "metadata/1.root.json"
        done = lazyfs("mount", url, mnt, "--trust", trust, *options, check=False)
    assert done.returncode == 1
    for word in (url, said, "URL/metadata/timestamp.json"):
        assert word in done.stderr


def test_one_place_alone_is_no_mount(mnt: Path) -> None:
    done = lazyfs("mount", "http://origin.example/unpacked", check=False)
    assert done.returncode == 2
    for word in ("http://origin.example/unpacked", "lazyfs mount URL MOUNTPOINT"):
        assert word in done.stderr


def test_umount_says_where_else_the_filesystem_is_mounted(
    published: Published, mnt: Path, tmp_path: Path
) -> None:
    (tmp_path / "bound").mkdir()
    lazyfs("mount", published.store, mnt, "--cache", tmp_path / "cache")
    daemon = status(mnt)["pid"]
    subprocess.run(["mount", "--bind", mnt, tmp_path / "bound"], check=True)
    said = lazyfs("umount", mnt).stderr
    assert f"(pid {daemon}) goes on: its mount is also at {tmp_path / 'bound'}" in said
    assert (tmp_path / "bound/lib/a:1/f").read_bytes() == b"1"
    assert lazyfs("umount", tmp_path / "bound").stderr == ""


def test_umount_says_that_another_namespace_keeps_the_filesystem(
    published: Published, mnt: Path, tmp_path: Path
) -> None:
    lazyfs("mount", published.store, mnt, "--cache", tmp_path / "cache")
    daemon = status(mnt)["pid"]
    said = subprocess.run(
        ["unshare", "--mount", *LAZYFS, "umount", mnt], capture_output=True, text=True, check=True
    ).stderr
    assert f"also at {mnt} in the daemon's mount namespace (nsenter -m -t {daemon})" in said
    assert status(mnt)["pid"] == daemon


def test_status_names_the_way_to_the_bytes_and_why_it_does_not_work(
    published: Published, mnt: Path, tmp_path: Path
) -> None:
    trust = ("--trust", published.store / "metadata/1.root.json", "--cache", tmp_path / "cache")
    with serving(published.store) as url:
        lazyfs("mount", url, mnt, *trust, "--proxy", "http://127.0.0.1:9;DIRECT", "--patience", "3")
        said = lazyfs("status", mnt).stdout
        assert f"origin {url}: up" in said
        assert re.search(r"proxy http://127\.0\.0\.1:9: down for .*connection refused", said)
        assert "waiting: nobody" in said
        assert "signed time seen may be up to 30 s old" in lazyfs("refresh", mnt).stdout
    lazyfs("refresh", mnt, check=False)
    assert f"origin {url}: down" in lazyfs("status", mnt).stdout


def test_status_fails_where_a_mount_does_not_answer(published: Published, mnt: Path, tmp_path: Path) -> None:
    with mounted(published.store, tmp_path / "other", "--cache", tmp_path / "cache"):
        lazyfs("mount", published.store, mnt, "--cache", tmp_path / "cache")
        assert lazyfs("status", mnt).returncode == 0
        with frozen(status(mnt)["pid"]):
            every = lazyfs("status", check=False)
            one = lazyfs("status", mnt, "--json", check=False)
        assert (every.returncode, one.returncode) == (1, 1)
        assert f"{mnt}: the daemon of {mnt}" in every.stdout
        assert f"{tmp_path / 'other'}: {published.store}" in every.stdout
        assert json.loads(one.stdout)["ok"] is False


def test_another_user_may_see_roots_mount_and_change_nothing(
    published: Published, mnt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_runtime = Path("/tmp") / f"lazyfs-test-{os.getpid()}"  # tmp_path is closed to other users
    open_runtime.mkdir(mode=0o755)
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(open_runtime))
    try:
        with serving(published.store) as url:
            account = url.replace("://", "://somebody:secret@")
            trust = published.store / "metadata/1.root.json"
            lazyfs("mount", account, mnt, "--trust", trust, "--cache", tmp_path / "cache")
            mount = control_client.mounted_at(str(mnt))
            shown = asked_as(65534, mount, {"do": "status"})
            assert shown["repositories"]["test.example.org"]["url"] == url
            assert "secret" not in json.dumps(shown)
            assert shown["repositories"]["test.example.org"]["namespace"] == ""
            assert status(mnt)["repositories"]["test.example.org"]["namespace"] != ""
            for request in ("refresh", "cache-resize", "urls", "settings"):
                assert "unknown request" in asked_as(65534, mount, {"do": request, "limit": 1})
            assert "repositories" in asked_as(0, mount, {"do": "refresh"})
        lazyfs("umount", mnt)
    finally:
        for left in open_runtime.iterdir():
            left.unlink()
        open_runtime.rmdir()


def test_a_mount_on_roots_directory_is_refused_with_its_reason(tmp_path: Path) -> None:
    """fusermount3 states the reason. libfuse is tried second, and says only that the mount failed."""
    roots = Path(tempfile.mkdtemp())  # tmp_path is closed to other users
    roots.chmod(0o755)
    prepare("direct")
    prepare("pyfuse3")
    filesystem = Filesystem(Tree(SlotTable(lambda *_: None)), _nothing, patience=1)

    def mount() -> str:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        options = MountOptions(source="s", suid=False, dev=False, permissions="open", allow_other=False)
        try:
            make_session("auto", filesystem, str(roots), options)
        except UsageError as error:
            return str(error)
        return "mounted"

    said = ask_one(mount, 30).value
    roots.rmdir()
    why = f"user has no write access to mountpoint {roots}; mount on a directory of your own"
    assert said == f"cannot mount on {roots}: {why}"


async def _nothing(_: str) -> None:
    """Stands in for the opening of a repository: opens none, so that the mount shows an empty site."""


def test_sighup_goes_on_in_a_new_log_and_leaves_the_mount(
    published: Published, mnt: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    lazyfs("mount", published.store, mnt, "--cache", tmp_path / "cache", "--log", log)
    daemon = status(mnt)["pid"]
    with open(mnt / "lib/a:1/big", "rb") as job:
        log.rename(tmp_path / "log.1")
        os.kill(daemon, signal.SIGHUP)
        until(lambda: log.exists() and "log opened anew" in log.read_text())
        assert job.read() == b"x" * 300_000
    assert status(mnt)["pid"] == daemon
    lazyfs("umount", mnt)
    assert "was unmounted" in log.read_text()
    assert "was unmounted" not in (tmp_path / "log.1").read_text()


def test_logrotate_as_the_documents_have_it(published: Published, mnt: Path, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/mounting.md").read_text()
    found = re.search(r"^ +/var/log/lazyfs/\*\.log \{.*?^ +\}$", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    logs = tmp_path / "logs"
    logs.mkdir(mode=0o755)
    rules = tmp_path / "rules"
    rules.write_text(found[0].replace("/var/log/lazyfs", str(logs)).replace("root adm", "root root") + "\n")
    rules.chmod(0o644)
    lazyfs("mount", published.store, mnt, "--cache", tmp_path / "cache", "--log", logs / "one.log")
    daemon = status(mnt)["pid"]
    subprocess.run(["logrotate", "--force", "--state", tmp_path / "state", rules], check=True)
    until(lambda: "log opened anew" in (logs / "one.log").read_text())
    assert "mounted" in (logs / "one.log.1").read_text()
    assert status(mnt)["pid"] == daemon


def test_an_outage_does_not_fill_the_log(published: Published, mnt: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    trust = ("--trust", published.store / "metadata/1.root.json", "--cache", tmp_path / "cache")
    with serving(published.store) as url:
        lazyfs("mount", url, mnt, *trust, "--log", log, "--patience", "1")
        os.listdir(mnt / "lib/a:1")
    for _ in range(300):
        with pytest.raises(OSError, match="Input/output"):
            (mnt / "lib/a:1/f").read_bytes()
    assert sum(status(mnt)["counters"]["faults"].values()) >= 300
    assert log.read_text().count("EIO") <= 6, log.read_text()
