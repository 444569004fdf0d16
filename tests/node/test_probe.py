"""The probe's verdict and its one line of output, for mounts that are healthy, degraded, hanging, dead or
missing."""

import errno
import os
import signal
from pathlib import Path

import msgspec
import pytest

from lazyfs.daemon import control_client
from lazyfs.daemon.status import MountStatus, WaitStatus
from lazyfs.node import probe
from lazyfs.node.probe import Judgement, LookedAt, Verdict, judge, together
from tests.support.cli import lazyfs, mounted, serving, socket_of, status
from tests.support.processes import frozen, gone
from tests.support.repository import Published
from tests.support.until import until

LIMIT = 60
"""Seconds after which a command counts as hanging. The probe's own limits are shorter, but Python may start
slowly on a loaded machine."""


def probed(*arguments: str | Path, user: int | None = None) -> tuple[int, str]:
    done = lazyfs("probe", *arguments, check=False, timeout=LIMIT, user=user)
    lines = (done.stdout + done.stderr).splitlines()
    return done.returncode, lines[-1]


@pytest.mark.root
def test_well_then_frozen_then_dead_then_gone(published: Published, tmp_path: Path) -> None:
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "cache", "--no-keeper") as mnt:
        code, line = probed(mnt)
        assert (code, line.partition(",")[0]) == (0, f"OK: {mnt}: test.example.org at revision 2")
        pid = status(mnt)["pid"]
        with frozen(pid):
            assert probed(mnt) == (2, f"CRITICAL: {mnt}: does not answer in 3 s")
        socket = Path(socket_of(mnt))
        socket.rename(socket.with_suffix(".away"))
        code, line = probed(mnt)
        assert (code, "answers, but no lazyfs daemon" in line) == (1, True)
        os.kill(pid, signal.SIGKILL)
        until(lambda: gone(pid))
        assert probed(mnt) == (2, f"CRITICAL: {mnt}: its daemon is dead; lazyfs mount replaces it")
    assert probed(mnt) == (2, f"CRITICAL: {mnt}: no mount of lazyfs is there")


@pytest.mark.root
def test_all_mounts_of_the_node_are_one_line(published: Published, tmp_path: Path) -> None:
    """The line may count other tests' mounts too, in any state."""
    with (
        mounted(published.store, tmp_path / "a", "--cache", tmp_path / "cache") as sick,
        mounted(published.store, tmp_path / "b", "--cache", tmp_path / "cache"),
        frozen(status(sick)["pid"]),
    ):
        code, line = probed()
    assert code == 2
    assert line.startswith("CRITICAL: ")
    assert f"{sick}: does not answer in 3 s" in line


def test_wrong_use_says_nothing_about_the_mount() -> None:
    assert probed("--nonsense")[0] == 3
    assert probed("/a", "/b")[0] == 3


def test_an_answer_comes_within_five_seconds() -> None:
    assert probe.LOOK_SECONDS + probe.ASK_SECONDS <= 4  # and one for the start of Python


@pytest.fixture
def well(published: Published, tmp_path: Path) -> MountStatus:
    """Returns the status of a real, healthy mount that reads over HTTP."""
    trust = published.store / "metadata/1.root.json"
    options = ("--cache", tmp_path / "cache", "--trust", trust, "--proxy", "DIRECT")
    with serving(published.store) as url, mounted(url, tmp_path / "mnt", *options) as mnt:
        return control_client.status(control_client.mounted_at(str(mnt)))


@pytest.mark.root
def test_what_needs_a_look_is_a_warning(well: MountStatus) -> None:
    replace = msgspec.structs.replace
    assert judge(LookedAt("/m", 0, well, "")).verdict is Verdict.OK
    ((name, repository),) = well.repositories.items()
    assert repository.chain is not None
    outage = replace(repository, chain=replace(repository.chain, outage_seconds=75.0))
    expired = replace(repository, trust=replace(repository.trust, expired=True))
    unsaved = replace(repository, trust=replace(repository.trust, problem="trust: disk full"))
    troubled = {
        "test.example.org: no path has worked for 75 s": replace(well, repositories={name: outage}),
        "test.example.org: expired on": replace(well, repositories={name: expired}),
        "test.example.org: trust: disk full": replace(well, repositories={name: unsaved}),
        "cache off: disk": replace(well, cache=replace(well.cache, state="off: disk")),
        "written down: full": replace(well, journal="full"),
        "4 calls wait, the longest for 61 s": replace(well, waiting={name: WaitStatus(4, 1, 61.0)}),
    }
    for text, status_ in troubled.items():
        found = judge(LookedAt("/m", 0, status_, ""))
        assert (found.verdict, text in found.text) == (Verdict.WARNING, True), found
    down = [replace(member, state="down") for member in repository.chain.members]
    aside = replace(repository, chain=replace(repository.chain, members=down))
    found = judge(LookedAt("/m", 0, replace(well, repositories={name: aside}), ""))
    assert (found.verdict, "2 of 2 proxies and origins down" in found.text) == (Verdict.OK, True), found
    without = replace(well, cache=replace(well.cache, state="off: limit 0", directory=""))
    assert judge(LookedAt("/m", 0, without, "")).verdict is Verdict.OK


def test_other_users_mounts_and_other_errors() -> None:
    assert judge(LookedAt("/m", 0, None, "no daemon", foreign=True)).verdict is Verdict.OK
    assert judge(LookedAt("/m", errno.EACCES, None, "")).verdict is Verdict.UNKNOWN
    assert judge(LookedAt("/m", errno.EIO, None, "")) == (Verdict.CRITICAL, "/m: Input/output error")
    assert judge(LookedAt("/m", errno.ECONNABORTED, None, "")).verdict is Verdict.CRITICAL


def test_the_worst_comes_first_and_the_well_are_counted() -> None:
    each = [Judgement(verdict, verdict.name) for verdict in Verdict]
    assert together(each) == (Verdict.CRITICAL, "CRITICAL; WARNING; UNKNOWN; OK")
    assert together([each[0]] * 3) == (Verdict.OK, "3 mounts are well")
    assert together([each[0], each[1], each[0]]) == (Verdict.WARNING, "WARNING; 2 mounts are well")
