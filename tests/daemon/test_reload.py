"""`lazyfs reload`: a daemon replaces its program, also if it is no longer root, and leaves nothing behind."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.daemon import control_client
from lazyfs.system.mount_table import Mount
from lazyfs.system.own_python import PYTHON
from lazyfs.vfs.journal_records import parse
from tests.support.cli import lazyfs, mounted, status
from tests.support.counts import count
from tests.support.entered_by_all import open_program_to_all
from tests.support.images import image, live
from tests.support.measured import Measured
from tests.support.private_mount_table import private_mount_table
from tests.support.processes import parent
from tests.support.repository import Published
from tests.support.runtime_directory import runtime_directory
from tests.support.until import until

THREADS = 16
"""More than a daemon of one repository has, whatever it is doing."""

pytestmark = pytest.mark.root


@pytest.fixture
def program_for_all(open_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Returns a directory that all users can enter, while all users can run the program too."""
    with private_mount_table():
        open_program_to_all()
        with runtime_directory(open_path, monkeypatch):
            yield open_path


def test_a_daemon_that_gave_up_root_replaces_its_program(program_for_all: Path) -> None:
    """Its successor is not root's either: it goes on with the control socket, which root made, with root's
    default for the cache, and with a log that it cannot open."""
    published = Published(program_for_all / "published")
    published.commit(live(published.objects, {"lib": {"a:1": image(published.objects, {"f": b"1"})}}))
    log = program_for_all / "log"
    options = ("--user", "nobody", "--log", log)
    # for the default of --cache
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/var/cache"], check=True)
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


def test_the_lookups_of_a_hand_over_that_failed_do_not_count(published: Published, tmp_path: Path) -> None:
    """Regression: a daemon that was killed some time after a reload had failed at the last moment left the
    lookups of that moment to its successor, which freed numbers that the kernel had been told of since."""
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\nrm "$0"\n')  # the check of the program succeeds, its start does not
    program.chmod(0o755)
    log, cache = tmp_path / "log", tmp_path / "c"
    with mounted(published.store, tmp_path / "mnt", "--cache", cache, "--log", log) as mnt:
        assert (mnt / "lib/a:1/f").read_bytes() == b"1"
        mount = control_client.mounted_at(str(mnt))
        control_client.reload(mount, [str(program)], control_client.settings(mount))
        until(lambda: "the mount stays with this process" in log.read_text())
        (numbers,) = (cache / "state/mounts").iterdir()
        found, _ = parse(numbers.read_bytes())
        assert found.slots
        assert found.lookups is None


def test_a_mount_gets_its_first_log(published: Published, tmp_path: Path) -> None:
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "c") as mnt:
        lazyfs("reload", mnt, "--log", tmp_path / "log")
        until(lambda: "took over" in (tmp_path / "log").read_text())


@pytest.mark.timeout(count(120, 3600))
def test_reloads_leave_nothing_behind(published: Published, tmp_path: Path, measured: Measured) -> None:
    """Reloads leak no descriptors, threads and memory, in the daemon and in the keeper, and no inode numbers
    once the kernel has forgotten them."""
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "c") as mnt:
        mount = control_client.mounted_at(str(mnt))
        (mnt / "lib/a:1/big").read_bytes()
        daemon = status(mnt)["pid"]
        keeper = parent(daemon)
        usual: tuple[int, ...] = ()
        memory = []
        for number in range(1, count(3, 1000) + 1):
            control_client.reload(mount, PYTHON, control_client.settings(mount))
            until(lambda: served_by(mount, number))  # noqa: B023 - called at once
            until(lambda: len(os.listdir(f"/proc/{daemon}/task")) >= 3)
            os.stat(mnt / "lib/a:1/big")
            usual = usual or settled(daemon, keeper)
            until(lambda: counts(daemon, keeper) == usual)  # noqa: B023
            assert len(os.listdir(f"/proc/{daemon}/task")) <= THREADS
            memory.append((own_memory(daemon), own_memory(keeper)))
            assert control_client.status(mount).memory.slots <= 8  # root, lib, image, shared files, idle ones
        for kind in zip(*memory, strict=True):
            part = len(kind) // 10 + 1
            first, last = (sorted(few)[part // 2] for few in (kind[:part], kind[-part:]))
            measured(f"{len(kind)} reloads: {first} KiB of memory at first, {last} at last; {usual}")
            assert last - first < count(8192, 1024)


def served_by(mount: Mount, succession: int) -> bool:
    """Returns True if the mount is served by its n-th successor."""
    try:
        return control_client.status(mount).successions == succession
    except UsageError:  # it is starting
        return False


def counts(daemon: int, keeper: int) -> tuple[int, ...]:
    """Returns the numbers of descriptors of the daemon, and of descriptors and threads of the keeper. The
    daemon's threads come and go with its work."""
    places = (f"{daemon}/fd", f"{keeper}/fd", f"{keeper}/task")
    return tuple(len(os.listdir(f"/proc/{place}")) for place in places)


def settled(daemon: int, keeper: int) -> tuple[int, ...]:
    """Returns the counts once they stay as they are for a second."""
    seen: list[tuple[int, ...]] = []

    def stays() -> bool:
        time.sleep(0.1)
        seen.append(counts(daemon, keeper))
        return len(seen) >= 10 and len(set(seen[-10:])) == 1

    until(stays)
    return seen[-1]


def own_memory(pid: int) -> int:
    """Returns the KiB of a process that no file backs."""
    found = re.search(r"^RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])
