"""The password of a proxy or an origin is never shown, however the password was given."""

import base64
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lazyfs.core.chain.notation import without_secrets
from lazyfs.core.errors import UsageError
from lazyfs.daemon.settings import RepositorySource
from lazyfs.daemon.settings_input import check
from lazyfs.daemon.values_from_files import LARGEST, read_value
from lazyfs.system.command_line import without_accounts
from lazyfs.system.mountpoint import find
from tests.support.cli import lazyfs, mounted, serving, status
from tests.support.images import image, live
from tests.support.repository import Published

SECRET = "Sesame77"
ACCOUNT = b"Basic " + base64.b64encode(f"site:{SECRET}".encode())


@contextmanager
def closed_store(store: Path, header: str) -> Iterator[tuple[int, list[bool]]]:
    """Serves a store, as an origin or a proxy, to clients that send the account in `header`. Yields the port
    and a list that gets True for each answered request and False for each refused one."""
    answered: list[bool] = []

    class Answers(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answered.append(self.headers.get(header, "").encode() == ACCOUNT)
            if not answered[-1]:
                self.send_error(407 if header.startswith("Proxy") else 401)
                return
            if "://" in self.path:  # a request to a proxy names the whole URL
                self.path = "/" + self.path.split("/", 3)[3]
            super().do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    def handler(*arguments: Any) -> Answers:
        return Answers(*arguments, directory=str(store))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1], answered
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def published(tmp_path: Path) -> Published:
    found = Published(tmp_path)
    found.commit(live(found.objects, {"a:1": image(found.objects, {"f": b"content"})}))
    return found


def _seen(mnt: Path, log: Path) -> str:
    """Returns everything that a user can see of a mount: command line, mount table, status and log."""
    there = find(str(mnt))
    assert there is not None
    daemon = Path("/proc", str(status(mnt)["pid"]))
    return "\n".join(
        (
            daemon.joinpath("cmdline").read_bytes().decode(),
            there.source,
            Path("/proc/mounts").read_text(errors="surrogateescape"),
            json.dumps(status(mnt)),
            lazyfs("status", mnt).stdout,
            log.read_text(),
        )
    )


@pytest.mark.parametrize("given", ["typed", "file", "variable", "toml"])
def test_a_proxys_password_is_used_and_shown_nowhere(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    log = tmp_path / "log"
    trust = published.store / "metadata/1.root.json"
    with closed_store(published.store, "Proxy-Authorization") as (port, answered):
        chain = f"http://site:{SECRET}@127.0.0.1:{port}"
        (tmp_path / "secret").write_text(f"\n{chain}\n")
        (tmp_path / "toml").write_text(f'proxy = "@{tmp_path}/secret"\n')
        options: dict[str, list[str | Path]] = {
            "typed": ["--proxy", chain],
            "file": ["--proxy", f"@{tmp_path}/secret"],
            "variable": [],
            "toml": ["--config", tmp_path / "toml"],
        }
        if given == "variable":
            monkeypatch.setenv("LAZYFS_PROXY", chain)
        rest: list[str | Path] = ["--trust", trust, "--cache", tmp_path / "cache", "--log", log]
        with mounted("http://origin.invalid", tmp_path / "mnt", *options[given], *rest) as mnt:
            assert (mnt / "a:1/f").read_bytes() == b"content"
            seen = _seen(mnt, log)
            lazyfs("cache", "pin", mnt / "a:1", "--proxy", f"@{tmp_path}/secret")
    assert answered
    assert all(answered)
    assert SECRET not in seen
    if given == "typed":
        assert f"--proxy\0http://***@127.0.0.1:{port}\0--trust" in seen


def test_an_origins_password_is_used_and_shown_nowhere(published: Published, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with closed_store(published.store, "Authorization") as (port, answered):
        url = f"http://site:{SECRET}@127.0.0.1:{port}"
        trust = published.store / "metadata/1.root.json"
        (tmp_path / "point").mkdir()
        refused = lazyfs("mount", url, tmp_path / "point", "--cache", tmp_path / "other", check=False)
        assert f"http://***@127.0.0.1:{port} is mounted for the first time" in refused.stderr
        rest = ("--trust", trust, "--cache", tmp_path / "cache", "--log", log)
        (tmp_path / "secret").write_text(url)
        for source in (url, f"@{tmp_path}/secret"):
            with mounted(source, tmp_path / "mnt", *rest) as mnt:
                assert (mnt / "a:1/f").read_bytes() == b"content"
                seen = _seen(mnt, log)
                lazyfs("cache", "pin", mnt / "a:1")  # asks the daemon for the URL itself
                there = find(str(mnt))
                assert there is not None
                assert there.source == f"http://***@127.0.0.1:{port}"
            assert SECRET not in seen
    assert all(answered)


def test_a_descriptor_gives_a_value_and_settings_name_files(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"http://a:b@proxy:3128\n")
    os.close(writing)
    assert read_value(f"@/dev/fd/{reading}", "proxy") == "http://a:b@proxy:3128"
    os.close(reading)
    (tmp_path / "u").write_text("http://a:b@origin")
    site = {"repositories": {"r": {"url": f"@{tmp_path}/u", "proxy": f"@{tmp_path}/u"}}}
    assert check(site, "here").repositories == {
        "r": RepositorySource(url="http://a:b@origin", proxy="http://a:b@origin")
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "must hold one line, the value, and not 0"),
        (b"a\nb\n", "and not 2"),
        (b"a" * (LARGEST + 1), "must hold one line"),
        (None, "No such file"),
    ],
)
def test_a_file_that_holds_no_value(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    with pytest.raises(UsageError, match=f"proxy @{tmp_path}/file: .*{said}"):
        check({"source": "http://o", "proxy": f"@{tmp_path}/file"}, "here")
    with pytest.raises(UsageError, match="proxy"):
        check({"source": "http://o", "proxy": "@a\0b"}, "here")


@pytest.mark.root
def test_the_command_line_goes_over_the_variable(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """test_showconfig has a mount with the variable alone."""
    monkeypatch.setenv("LAZYFS_PROXY", "http://127.0.0.1:1")
    options: list[str | Path] = ["--cache", tmp_path / "c"]
    options += ["--trust", published.store / "metadata/1.root.json"]
    with (
        serving(published.store) as url,
        mounted(url, tmp_path / "mnt", *options, "--proxy", "DIRECT") as mnt,
    ):
        found = {one["name"]: one for one in json.loads(lazyfs("showconfig", "--json", mnt).stdout)}
        assert (mnt / "a:1/f").read_bytes() == b"content"
    assert (found["proxy"]["value"], found["proxy"]["origin"]["kind"]) == ("DIRECT", "command line")


def test_a_directory_is_read_without_the_proxy_of_the_variable() -> None:
    assert check({"source": "/a/directory", "proxy": "http://v:1"}, "here").single_source().proxy is None


@pytest.mark.parametrize(
    ("line", "hidden"),
    [
        (
            b"a\0--proxy\0http://u:p@h:1|http://v:q@i;DIRECT\0",
            b"a\0--proxy\0http://***@h:1|http://***@i;DIRECT\0",
        ),
        (b"http://u:p@w@host/@repo@\0next\0", b"http://***@host/@repo@\0next\0"),
        (b"http://host/a@b\0x@y\0", b"http://host/a@b\0x@y\0"),
        (b"--proxy=http://u:@h\0", b"--proxy=http://***@h\0"),
    ],
)
def test_accounts_on_a_command_line(line: bytes, hidden: bytes) -> None:
    found = without_accounts(line)
    assert len(found) == len(line)
    assert found.rstrip(b"\0") == hidden[: len(line)].rstrip(b"\0")
    assert without_secrets(line.decode()) == hidden.decode()


def test_a_signature_on_a_command_line() -> None:
    line = b"run\0https://h/x.sif?Signature=word&a=b\0--\0a*?\0"
    assert without_accounts(line) == b"run\0https://h/x.sif?***\0--\0a*?\0".ljust(len(line), b"\0")


def test_the_kernel_shows_what_was_put_over_a_command_line() -> None:
    script = (
        "import sys; from lazyfs.system.command_line import hide_accounts; hide_accounts(); "
        "sys.stdout.write(open('/proc/self/cmdline').read())"
    )
    given = ["-c", script, f"https://me:{SECRET}@registry/x", "last"]
    shown = subprocess.run([sys.executable, *given], capture_output=True, text=True, check=True).stdout
    assert SECRET not in shown
    assert shown.rstrip("\0").endswith("\0https://***@registry/x\0last")
