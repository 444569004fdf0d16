"""A daemon under attack: by a proxy, through its control socket and metrics server, and through its
settings."""

import json
import os
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from benchmarks.ports import free_port
from lazyfs.core.catalog.inode import Nested
from lazyfs.daemon.control import MAX_LINE
from lazyfs.daemon.session_choice import KINDS
from lazyfs.system import mountpoint as points
from tests.acceptance.test_bad_input import refused
from tests.support.cli import lazyfs, mounted, serving, socket_of, status
from tests.support.fault_server import of_directory
from tests.support.hostile_answers import ATTACKS, HostileProxy
from tests.support.images import image, live
from tests.support.repository import Published
from tests.support.until import until

pytestmark = pytest.mark.root
NAME = "test.example.org"


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Published]:
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(runtime))
    published = Published(tmp_path / "site")
    published.commit(_revision(published, 2))
    yield published
    for mount in points.mounts():
        if mount.mountpoint.startswith(str(tmp_path)):
            points.unmount(mount.mountpoint)


def _revision(published: Published, number: int) -> Nested:
    files = {f"f{file}": b"%d %d" % (number, file) for file in range(30)}
    return live(published.objects, {"lib": {"a:1": image(published.objects, files)}})


SLOW = ("silence", "trickle", "extension without end")
QUICK = [attack for attack in ATTACKS if not attack.large and not any(word in attack.name for word in SLOW)]


@pytest.mark.parametrize("session", KINDS)
def test_no_answer_of_a_proxy_ends_the_daemon(published: Published, tmp_path: Path, session: str) -> None:
    """All hostile proxies are configured at once. Refreshes and reads still succeed by another path."""
    with ExitStack() as stack:
        content = of_directory(published.store)
        proxies = [stack.enter_context(HostileProxy(content, attack)) for attack in QUICK]
        url = stack.enter_context(serving(published.store))
        chain = ";".join([*(proxy.url for proxy in proxies), "DIRECT"])
        options = ("--trust", published.store / "metadata/1.root.json", "--cache", tmp_path / "cache")
        paths = ("--proxy", chain, "--refresh", "0.05", "--patience", "25", "--fuse", session)
        mnt = stack.enter_context(mounted(url, tmp_path / "mnt", *options, *paths, "--log", tmp_path / "log"))
        number = published.commit(_revision(published, 3))
        until(lambda: (mnt / "lib/a:1/f0").read_bytes() == b"3 0")
        for file in range(30):
            assert (mnt / f"lib/a:1/f{file}").read_bytes() == b"3 %d" % file
        assert not [proxy.attack for proxy in proxies if not proxy.seen]
        told = status(mnt)
        assert told["repositories"][NAME]["revision"] == number
        assert told["counters"]["faults"] == {}
        assert "Traceback" not in (tmp_path / "log").read_text()


def _ask(mnt: Path, line: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as raw:
        raw.settimeout(20)
        raw.connect(socket_of(mnt))
        try:
            raw.sendall(line)
            raw.shutdown(socket.SHUT_WR)
        except BrokenPipeError:  # the daemon has closed the connection
            pass
        try:
            return b"".join(iter(lambda: raw.recv(65536), b""))
        except ConnectionResetError:
            return b""


LINES = [
    b"",
    b"\n",
    b"\xff\xfe\n",
    b"[" * 100_000 + b"\n",
    b'{"do":' * 50_000 + b"\n",
    b'{"do": "status", "x": ' + b"9" * 5000 + b"}\n",
    b'{"do": ["status"]}\n',
    b'{"do": {}}\n',
    b"[1]\n",
    b'"status"\n',
    b"null\n",
    b'{"do": "cache-resize", "limit": ' + b"9" * 4000 + b"}\n",
    b'{"do": "cache-resize", "limit": -1}\n',
    b'{"do": "cache-resize", "limit": true}\n',
    b'{"do": "cache-resize", "limit": 1e308}\n',
    b"x" * (MAX_LINE + 5),
    b'{"do": "pid"}\n' * 1000,
]


def test_no_request_ends_the_daemon(published: Published, tmp_path: Path) -> None:
    port = free_port()
    options = ("--cache", tmp_path / "cache", "--metrics", f"127.0.0.1:{port}", "--log", tmp_path / "log")
    with mounted(published.store, tmp_path / "mnt", *options) as mnt:
        for line in LINES:
            answer = _ask(mnt, line)
            assert answer.startswith((b'{"ok": false, "error"', b'{"ok": true, "pid"')), line[:40]
            assert answer.count(b"\n") == 1
        for request in (
            b"GET /metrics HTTP/1.1\r\nX: " + b"y" * 100_000,
            b"GET /metrics?name[]=" + b"x" * 60_000 + b" HTTP/1.1\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
            b"\x00" * 1000 + b"\r\n\r\n",
        ):
            # The server may close the connection before the whole request has been sent.
            with socket.create_connection(("127.0.0.1", port), 20) as raw, suppress(OSError):
                raw.sendall(request)
                raw.shutdown(socket.SHUT_WR)
                while raw.recv(65536):
                    pass
        assert (mnt / "lib/a:1/f1").read_bytes() == b"2 1"
        assert status(mnt)["repositories"][NAME]["revision"] == 2
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            assert b"lazyfs_revision" in answer.read()


WRONG_SETTINGS = [
    (b'source = "/x\xff"\n', "not UTF-8"),
    (b"x = " + b"[" * 100_000, ""),
    (b"refresh = " + b"9" * 5000, ""),
    (b"refresh = nan\n", "refresh is nan"),
    (b"refresh = 0\n", "refresh is 0"),
    (b"patience = inf\n", "patience is inf"),
    (b"max_stale = -1\n", "max_stale is -1"),
    (b"max_stale = 1e300\n", "max_stale is 1e+300"),
    (b"uid = -1\n", "uid is -1"),
    (b"gid = 4294967295\n", "gid is 4294967295"),
    (b'trust = "a\\u0000b"\n', "NUL"),
    (b'mountpoint = "/m\\u0000"\n', "NUL"),
    (b'cache = "/c\\u0000"\n', "NUL"),
    (b'proxy = "http://p\\u0000:1"\n', "NUL"),
    (b'cache_limit = "' + b"9" * 5000 + b'T"\n', "cache_limit"),
    (b'cache_limit = "\xc2\xb2G"\n', "cache_limit"),
    (b'metrics = "127.0.0.1:' + b"9" * 5000 + b'"\n', "metrics"),
    (b"#" * (2 << 20), "more than 1048576 bytes"),
]


@pytest.mark.parametrize(
    ("text", "word"), WRONG_SETTINGS, ids=[repr(text[:25]) for text, _ in WRONG_SETTINGS]
)
def test_settings_that_are_none_are_one_line(
    published: Published, tmp_path: Path, text: bytes, word: str
) -> None:
    (tmp_path / "mnt").mkdir()
    (tmp_path / "lazyfs.toml").write_bytes(text)
    places = [published.store, tmp_path / "mnt"] if not text.startswith((b"mountpoint", b"source")) else []
    done = lazyfs(
        "mount", *places, "--config", tmp_path / "lazyfs.toml", "--log", tmp_path / "log", check=False
    )
    line = refused(done, word)
    assert len(line) < 1000
    assert not os.path.ismount(tmp_path / "mnt")


def test_a_root_file_with_a_name_that_none_can_have(published: Published, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    for place in ({"url": str(published.store), "trust": "a\0"}, {"url": "http://a\0.example/x"}):
        table = "\n".join(f"{key} = {json.dumps(value)}" for key, value in place.items())
        (tmp_path / "lazyfs.toml").write_text(f'[repositories."a.example"]\n{table}\n')
        done = lazyfs("mount", tmp_path / "mnt", "--config", tmp_path / "lazyfs.toml", check=False)
        refused(done, "NUL", "repositories.a.example")
