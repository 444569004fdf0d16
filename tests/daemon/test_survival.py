"""Readers notice nothing when a daemon is killed, replaced or stopped, because the keeper and a successor
take over."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lazyfs.system import mountpoint as points
from tests.support.cli import lazyfs, mounted, status, successions
from tests.support.counts import count
from tests.support.images import image, live
from tests.support.processes import daemons, frozen, gone
from tests.support.repository import Published
from tests.support.steady_reader import FILES, expected
from tests.support.until import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(count(120, 1800))]

IMAGES = count(4, 20)
READERS = count(6, 100)
KILLS = count(4, 50)


@pytest.fixture
def images(tmp_path: Path) -> Published:
    """Publishes images whose files have the content that tests/support/steady_reader.py expects."""
    found = Published(tmp_path / "images")
    made = {
        f"image:{number}": image(
            found.objects, {f"f{n}": expected(f"image:{number}", n) for n in range(FILES)}
        )
        for number in range(IMAGES)
    }
    found.commit(live(found.objects, {"lib": made}))
    return found


@contextmanager
def readers(mnt: Path, count: int) -> Iterator[list[dict[str, Any]]]:
    """Runs processes of tests/support/steady_reader.py for the block. After the block, the yielded list has
    their reports."""
    command = [sys.executable, "-m", "tests.support.steady_reader", str(mnt)]
    pipe = subprocess.PIPE
    running = [
        subprocess.Popen([*command, str(seed)], stdin=pipe, stdout=pipe, text=True) for seed in range(count)
    ]
    found: list[dict[str, Any]] = []
    try:
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
        yield found
    finally:
        for process in running:
            said, _ = process.communicate("end", timeout=120)
            found.append(json.loads(said))


def no_error(found: Sequence[dict[str, Any]]) -> None:
    assert [reader["errors"] for reader in found] == [[] for _ in found]
    assert all(reader["rounds"] > 1 for reader in found)


def kill_the_daemon(mnt: Path) -> None:
    """Kills the daemon, and returns once a successor serves."""
    before = status(mnt)
    os.kill(before["pid"], signal.SIGKILL)
    until(lambda: gone(before["pid"]))
    until(lambda: successions(mnt) > before["successions"])


@pytest.mark.parametrize("cache", ["warm", "none"])
def test_no_reader_notices_that_daemons_are_killed(cache: str, images: Published, tmp_path: Path) -> None:
    """Each kill comes at a random moment. Without a cache, reads take longer, so that more of them are under
    way at a kill."""
    limit = ("--cache-limit", "0") if cache == "none" else ()
    with mounted(images.store, tmp_path / "mnt", "--cache", tmp_path / "cache", *limit) as mnt:
        with readers(mnt, READERS) as found:
            for _ in range(KILLS):
                time.sleep(2 + random.random())  # a daemon that dies sooner would count as ill
                kill_the_daemon(mnt)
        no_error(found)
        assert status(mnt)["successions"] == KILLS
    assert points.find(str(tmp_path / "mnt")) is None


def test_no_reader_notices_another_program_with_other_settings(images: Published, tmp_path: Path) -> None:
    with mounted(images.store, tmp_path / "mnt", "--cache", tmp_path / "cache") as mnt:
        pid = status(mnt)["pid"]
        with readers(mnt, READERS) as found:
            for number in range(KILLS):
                lazyfs("reload", mnt, "--patience", str(40 + number))
        no_error(found)
        assert status(mnt)["successions"] == KILLS
        assert status(mnt)["pid"] == pid
        assert f"patience = {39 + KILLS}" in lazyfs("showconfig", mnt).stdout


def test_a_mount_keeps_its_inode_numbers(images: Published, tmp_path: Path) -> None:
    with mounted(images.store, tmp_path / "mnt", "--cache", tmp_path / "cache", "--inode32") as mnt:
        names = [mnt / "lib", *(mnt / "lib/image:1" / f"f{n}" for n in range(FILES))]
        before = [os.stat(name).st_ino for name in names]
        kill_the_daemon(mnt)
        Path("/proc/sys/vm/drop_caches").write_text("2")
        assert [os.stat(name).st_ino for name in names] == before
        lazyfs("reload", mnt)
        Path("/proc/sys/vm/drop_caches").write_text("2")
        assert [os.stat(name).st_ino for name in names] == before


def test_a_successor_shows_the_revision_that_its_predecessor_had_no_time_to_show(
    images: Published, tmp_path: Path
) -> None:
    mnt = tmp_path / "mnt"
    with mounted(images.store, mnt, "--cache", tmp_path / "cache", "--refresh", "0.2"):
        assert not (mnt / "lib/new:1").exists()  # the kernel remembers that
        with frozen(status(mnt)["pid"]):
            made = {"new:1": image(images.objects, {"f": b"new"})}
            images.commit(live(images.objects, {"lib": made}))
            (pid,) = daemons(mnt)
            os.kill(pid, signal.SIGKILL)
        until((mnt / "lib/new:1/f").exists)
        assert (mnt / "lib/new:1/f").read_bytes() == b"new"
        assert sorted(os.listdir(mnt / "lib")) == ["new:1"]
