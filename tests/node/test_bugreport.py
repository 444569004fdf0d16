"""A bug report has the facts that help, is made even if mounts hang, and contains no secret, wherever a
secret was planted."""

import json
import os
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

from lazyfs.node import bugreport, report_parts
from lazyfs.node.probe import ASK_SECONDS, LOOK_SECONDS
from lazyfs.node.scrubber import Scrubber
from lazyfs.node.surroundings import ASK_SECONDS as SETTINGS_SECONDS
from lazyfs.node.surroundings import Surroundings
from tests.daemon.test_secrets import closed_store
from tests.support.cli import lazyfs, mounted, status
from tests.support.processes import frozen
from tests.support.repository import Published

pytestmark = pytest.mark.root

SECRET = "Sesame77"
LIMIT = 120
"""Seconds after which a command counts as hanging, on a loaded machine too."""


def contents(path: Path) -> dict[str, str]:
    """Returns file name -> content of the files in the folder of a bug report's archive."""
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        found = {}
        for member in members:
            content = archive.extractfile(member)
            assert content is not None
            found[member.name.partition("/")[2]] = content.read().decode()
    return found


def test_planted_secrets_are_in_no_part(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "people/alice"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LOGNAME", "alice")
    log = home / "mount.log"
    config = home / "site.toml"
    config.touch(mode=0o600)
    trust = published.store / "metadata/1.root.json"
    with closed_store(published.store, "Proxy-Authorization") as (port, _):
        (tmp_path / "secret").write_text(f"http://site:{SECRET}@127.0.0.1:{port}\n")
        config.write_text(
            f'source = "http://origin.invalid"\nproxy = "@{tmp_path}/secret"\ncache = "{home}/cache"\n'
            f'trust = "{trust}"\nlog = "{log}"\n'
        )
        with mounted("http://origin.invalid", tmp_path / "alice-mnt", "--config", config):
            with log.open("a") as file:
                file.write(f"GET http://site:{SECRET}@127.0.0.1/x?token={SECRET} by alice of {home}\n")
                file.write(f"Authorization: Bearer {SECRET}.{SECRET}\nlast line of the log\n")
            lazyfs("bugreport", "-o", tmp_path / "report.tar.gz", timeout=LIMIT)
    found = contents(tmp_path / "report.tar.gz")
    assert (tmp_path / "report.tar.gz").stat().st_mode & 0o777 == 0o600
    everything = json.dumps(found)
    for secret in (SECRET, "alice", str(home), "c2l0ZTpTZXNhbWU3Nw"):
        assert secret not in everything, [name for name, text in found.items() if secret in text]
    assert "last line of the log" in "".join(text for name, text in found.items() if name.startswith("log-"))
    mounts = [
        text for name, text in found.items() if name.startswith("mount-") and re.search(r"user\d+-mnt", text)
    ]
    assert json.loads(mounts[0])["status"]["repositories"]["test.example.org"]["revision"] == 2
    settings = "".join(text for name, text in found.items() if name.startswith("settings-"))
    # other tests' mounts have settings of their own
    assert f'"value": "http://***@127.0.0.1:{port}"' in settings
    assert "fuse.lazyfs" in found["mountinfo.txt"]
    assert json.loads(found["versions.json"])["libraries"]["msgspec"]
    assert "doctor.json" in found


def test_a_report_comes_while_a_mount_hangs(published: Published, tmp_path: Path) -> None:
    log = tmp_path / "mount.log"
    options = ("--cache", tmp_path / "cache", "--log", log)
    with mounted(published.store, tmp_path / "mnt", *options) as mnt:
        pid = status(mnt)["pid"]
        with frozen(pid):
            lazyfs("bugreport", "-o", tmp_path / "report.tar.gz", timeout=LIMIT)
            done = lazyfs("bugreport", "-o", mnt / "report.tar.gz", timeout=LIMIT, check=False)
    found = contents(tmp_path / "report.tar.gz")
    assert any(f"{mnt} hangs" in one["wrong"] for one in json.loads(found["doctor.json"]))
    (daemon,) = [one for one in json.loads(found["daemons.json"]) if one["pid"] == pid]
    assert daemon["state"].startswith("T")
    assert any(text.startswith(f"{log}\n") and "mounted" in text for text in found.values())
    assert (done.returncode, "give another file with -o" in done.stderr) == (2, True)


def test_a_report_takes_thirty_seconds_at_most() -> None:
    looks = LOOK_SECONDS + ASK_SECONDS + 2 * SETTINGS_SECONDS
    rounds = 5 * bugreport.PART_SECONDS
    assert looks + rounds + bugreport.DOCTOR_SECONDS < 30


def test_parts_that_hang_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bugreport, "PART_SECONDS", 0.5)
    monkeypatch.setattr(bugreport, "examine", lambda _, seconds: [])

    def hang() -> Any:
        return os.read(os.pipe()[0], 1)

    monkeypatch.setattr(report_parts, "daemons", hang)
    parts = bugreport.collect(Surroundings([], []))
    assert list(parts["missing.json"]) == ["daemons.json"]
    assert parts["versions.json"]["lazyfs"]


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "y")
    for name in ("x", "link", "nowhere/x"):
        done = lazyfs("bugreport", "-o", tmp_path / name, check=False, timeout=LIMIT)
        assert (done.returncode, "give another file with -o" in done.stderr) == (2, True)
    assert (tmp_path / "x").read_text() == "mine"
    assert not (tmp_path / "y").exists()


def test_the_end_of_a_log_begins_with_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_parts, "LAST_BYTES", 12)
    (tmp_path / "log").write_text("first line\nsecond\nthird\n")
    assert report_parts.last_lines(str(tmp_path / "log")) == "third\n"
    os.mkfifo(tmp_path / "fifo")
    assert report_parts.last_lines(str(tmp_path / "fifo")) == ""


def test_names_that_are_not_utf8_are_packed(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff")
    packed = bugreport.archive({"a.json": {name: 1}, "b.txt": name}, Scrubber([], [], []), "top")
    (tmp_path / "x").write_bytes(packed)
    assert contents(tmp_path / "x") == {"a.json": '{\n "\\udcff": 1\n}', "b.txt": "\\udcff"}
