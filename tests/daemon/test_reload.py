"""`lazyfs reload`: what a daemon that replaces its program needs, and may no longer make."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import lazyfs, mounted, status
from tests.support.entered_by_all import open_program_to_all
from tests.support.images import image, live
from tests.support.private_mount_table import private_mount_table
from tests.support.processes import parent
from tests.support.repository import Published
from tests.support.runtime_directory import runtime_directory
from tests.support.until import until

pytestmark = pytest.mark.root


@pytest.fixture
def program_for_all(open_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Returns a directory that all users can enter, while all users can run the program too."""
    with private_mount_table():
        open_program_to_all()
        with runtime_directory(open_path, monkeypatch):
            yield open_path


def test_a_daemon_that_gave_up_root_replaces_its_program(program_for_all: Path) -> None:
    """Its successor is not root's either: it goes on with the control socket, which root made, and with a log
    that it cannot open."""
    published = Published(program_for_all / "published")
    published.commit(live(published.objects, {"lib": {"a:1": image(published.objects, {"f": b"1"})}}))
    log = program_for_all / "log"
    options = ("--cache", program_for_all / "cache", "--user", "nobody", "--log", log)
    with mounted(published.store, program_for_all / "mnt", *options) as mnt:
        log.chmod(0o600)
        before = status(mnt)["pid"]
        keeper = parent(before)
        held = os.open(mnt / "lib/a:1/f", os.O_RDONLY)
        for number in range(1, 3):
            done = lazyfs("reload", mnt, "--patience", str(40 + number))
            assert f"served by a new daemon (pid {before})" in done.stdout
            assert (status(mnt)["successions"], parent(before)) == (number, keeper)
            assert f"patience = {40 + number}" in lazyfs("showconfig", mnt).stdout
        os.close(held)
        lines = Path(f"/proc/{before}/status").read_text().splitlines()
        assert [line.split()[1:] for line in lines if line.startswith("Uid")] == [["65534"] * 4]
        assert (mnt / "lib/a:1/f").read_bytes() == b"1"
        assert "the log stays in the old file" in log.read_text()
        assert "took over" in log.read_text()


def test_another_log(published: Published, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "c", "--log", old) as mnt:
        refused = lazyfs("reload", mnt, "--log", tmp_path / "nowhere/log", check=False)
        assert (refused.returncode, "nowhere/log: No such file" in refused.stderr) == (2, True), refused
        assert status(mnt)["successions"] == 0
        lazyfs("reload", mnt, "--log", new)
        until(lambda: "took over" in new.read_text())
        assert "took over" not in old.read_text()


def test_a_mount_gets_its_first_log(published: Published, tmp_path: Path) -> None:
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "c") as mnt:
        lazyfs("reload", mnt, "--log", tmp_path / "log")
        until(lambda: "took over" in (tmp_path / "log").read_text())
