"""Readers notice nothing when a daemon is killed, replaced or stopped, because the keeper and a successor
take over."""

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from lazyfs.system import mountpoint as points
from tests.support.cli import lazyfs, mounted, status, successions
from tests.support.counts import count
from tests.support.images import image, live
from tests.support.kernel_caches import drop_kernel_caches
from tests.support.measured import Measured
from tests.support.processes import daemons, frozen, gone
from tests.support.repository import Published
from tests.support.steady_reader import FILES
from tests.support.steady_readers import STILL, no_error, published_images, readers
from tests.support.until import until

pytestmark = [pytest.mark.root, pytest.mark.alone, pytest.mark.timeout(count(120, 1800))]

IMAGES = count(4, 20)
READERS = count(6, 100)
KILLS = count(4, 50)
LONGEST_PAUSE = count(20.0, 2.0)
"""Seconds. The acceptance's 2 s are asserted in the long tier, which has its machine to itself."""
STOPPED, PATIENCE = 60.0, 10.0
SLACK = 5.0
"""Seconds that a hundred readers may take beyond their deadline for the calls of a round."""


@pytest.fixture
def images(tmp_path: Path) -> Published:
    return published_images(tmp_path / "images", IMAGES)


def kill_the_daemon(mnt: Path) -> float:
    """Kills the daemon. Returns, once a successor serves, the seconds from the kill to the answer to a call
    that only a daemon can answer."""
    before = status(mnt)
    os.kill(before["pid"], signal.SIGKILL)
    began = time.monotonic()
    until(lambda: gone(before["pid"]))
    with suppress(FileNotFoundError):
        os.lstat(mnt / f"missing-{random.random()}")
    pause = time.monotonic() - began
    until(lambda: successions(mnt) > before["successions"])
    return pause


@pytest.mark.parametrize("cache", ["warm", "none"])
def test_no_reader_notices_that_daemons_are_killed(
    cache: str, images: Published, tmp_path: Path, measured: Measured
) -> None:
    """Each kill comes at a random moment. Without a cache, reads take longer, so that more of them are under
    way at a kill."""
    limit = ("--cache-limit", "0") if cache == "none" else ()
    with mounted(images.store, tmp_path / "mnt", "--cache", tmp_path / "cache", *limit) as mnt:
        with readers(mnt, READERS) as found:
            pauses = []
            for _ in range(KILLS):
                time.sleep(2 + random.random())  # a daemon that dies sooner would count as ill
                pauses.append(kill_the_daemon(mnt))
        no_error(found)
        middle = sorted(pauses)[KILLS // 2]
        measured(f"{KILLS} kills: a pause of {middle:.2f} s in the median, of {max(pauses):.2f} s at most")
        assert max(pauses) <= LONGEST_PAUSE
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


@pytest.mark.long
def test_a_daemon_that_is_stopped_for_long(images: Published, tmp_path: Path) -> None:
    options = ("--cache", tmp_path / "cache", "--patience", str(PATIENCE))
    with mounted(images.store, tmp_path / "mnt", *options) as mnt:
        still = mnt / "other/still:1/f"
        assert still.read_bytes() == STILL
        with readers(mnt, READERS) as found, frozen(status(mnt)["pid"]):
            seconds_of_df = []
            end = time.monotonic() + STOPPED
            while time.monotonic() < end:
                began = time.monotonic()
                os.statvfs(mnt)
                seconds_of_df.append(time.monotonic() - began)
                assert still.read_bytes() == STILL  # the kernel has it
                time.sleep(0.1)
        assert sorted(seconds_of_df)[len(seconds_of_df) // 2] < 0.1
        assert all(reader["errors"] for reader in found)
        assert {error.partition("]")[0] for reader in found for error in reader["errors"]} == {"[Errno 5"}
        assert max(reader["pause"] for reader in found) < PATIENCE + SLACK
        with readers(mnt, READERS) as afterwards:
            time.sleep(1)
        no_error(afterwards)
        assert status(mnt)["successions"] == 0


def test_a_mount_keeps_its_inode_numbers(images: Published, tmp_path: Path) -> None:
    with mounted(images.store, tmp_path / "mnt", "--cache", tmp_path / "cache", "--inode32") as mnt:
        names = [mnt / "lib", *(mnt / "lib/image:1" / f"f{n}" for n in range(FILES))]
        before = [os.stat(name).st_ino for name in names]
        kill_the_daemon(mnt)
        drop_kernel_caches(2)
        assert [os.stat(name).st_ino for name in names] == before
        lazyfs("reload", mnt)
        drop_kernel_caches(2)
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
