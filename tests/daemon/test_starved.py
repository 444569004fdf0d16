"""Readers notice nothing when a daemon has too little memory: it gives back what it keeps, and if the kernel
kills it all the same, the keeper survives and starts a successor."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.cli import LAZYFS, lazyfs, status, successions
from tests.support.control_group import ControlGroup, control_group
from tests.support.counts import count
from tests.support.processes import gone, parent
from tests.support.repository import Published
from tests.support.steady_readers import no_error, published_images, readers
from tests.support.until import until

pytestmark = [pytest.mark.root, pytest.mark.alone, pytest.mark.timeout(count(120, 900))]

IMAGES, READERS = count(4, 20), count(6, 100)
GROUP = 150 << 20
"""Bytes that the control group of daemon and keeper may take."""

HOG = """
import sys, time
taken = []
for _ in range(int(sys.argv[1]) >> 20):
    taken.append(b"x" * (1 << 20))
    time.sleep(0.01)
print("taken", flush=True)
sys.stdin.read()
"""
"""A program that takes the given number of bytes, one MiB at a time, and keeps them until its stdin ends."""


@pytest.fixture
def images(tmp_path: Path) -> Published:
    return published_images(tmp_path / "images", IMAGES)


@contextmanager
def mounted_in(group: ControlGroup, images: Published, mnt: Path) -> Iterator[Path]:
    """Mounts with a daemon and a keeper in a control group; unmounts at the end. If the group is short of
    memory, the kernel kills the daemon first: before the keeper, and before all neighbours."""

    def enter() -> None:
        group.enter()
        Path("/proc/self/oom_score_adj").write_text("1000")

    mnt.mkdir()
    command: list[str | Path] = [
        *LAZYFS,
        "mount",
        images.store,
        mnt,
        "--cache",
        mnt.parent / "cache",
        "--memory-limit",
        "1G",
    ]
    subprocess.run(command, check=True, preexec_fn=enter)
    try:
        yield mnt
    finally:
        lazyfs("umount", mnt)


@contextmanager
def hog(group: ControlGroup, size: int) -> Iterator["subprocess.Popen[str]"]:
    """Runs a program in the group that takes `size` bytes of its memory."""
    command = [sys.executable, "-c", HOG, str(size)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, preexec_fn=group.enter)  # noqa: PLW1509
    with process:
        try:
            yield process
        finally:
            process.kill()


def oom_score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


@pytest.mark.long
def test_a_daemon_with_a_greedy_neighbour_gives_memory_back(images: Published, tmp_path: Path) -> None:
    """The neighbour leaves the daemon a third of the group's memory, and the daemon's setting is larger than
    the group's limit."""
    with control_group() as group:
        group.limit(GROUP)
        with mounted_in(group, images, tmp_path / "mnt") as mnt:
            with readers(mnt, READERS) as found:
                before = status(mnt)["memory"]["given_back"]
                with hog(group, GROUP * 2 // 3) as neighbour:
                    assert neighbour.stdout is not None
                    assert neighbour.stdout.readline() == "taken\n"
                    until(lambda: status(mnt)["memory"]["given_back"] > before)
                    time.sleep(20)  # the readers go on with what is left
            no_error(found)
            assert (group.killed(), status(mnt)["successions"]) == (0, 0)
            assert status(mnt)["memory"]["limit"] == GROUP


def test_no_reader_notices_that_the_kernel_kills_the_daemon_for_memory(
    images: Published, tmp_path: Path
) -> None:
    """The neighbour takes all of the group's memory, so that the kernel has to kill: the daemon and not the
    keeper."""
    with control_group() as group:
        group.limit(GROUP)
        with mounted_in(group, images, tmp_path / "mnt") as mnt:
            keeper = parent(status(mnt)["pid"])
            assert oom_score(keeper) == 500
            with readers(mnt, READERS) as found:
                for number in range(count(2, 5)):
                    time.sleep(2)  # a daemon that dies sooner would count as ill
                    before, kills = status(mnt)["pid"], group.killed()  # a successor may have been killed too
                    with hog(group, 2 * GROUP):
                        until(lambda kills=kills: group.killed() > kills, 60)  # type: ignore[misc]
                    until(lambda pid=before: gone(pid))  # type: ignore[misc]
                    until(lambda so_far=number: successions(mnt) > so_far, 60)  # type: ignore[misc]
            no_error(found)
            assert parent(status(mnt)["pid"]) == keeper
            assert oom_score(status(mnt)["pid"]) == 1000  # a successor does not keep the keeper's
