"""Faults that a test causes on this machine: the doctor finds each, names the remedy, and reports nothing
else."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lazyfs.node.checks import fuse
from lazyfs.node.doctor import Check, examine
from lazyfs.node.findings import Finding, Level
from lazyfs.node.surroundings import Surroundings, look_around, mounts_at
from lazyfs.system.bounded_look import ask_one
from lazyfs.system.fuse_conf import user_allow_other
from tests.support.cli import LAZYFS, lazyfs, mounted, serving, status
from tests.support.control_group import control_group
from tests.support.doctor import Config, checks, found, only
from tests.support.processes import frozen, gone
from tests.support.repository import Published
from tests.support.small_disks import mounted_disk
from tests.support.squid import Squid
from tests.support.until import until

pytestmark = pytest.mark.root


def test_nothing_is_wrong_with_a_mount_that_is_well(published: Published, tmp_path: Path) -> None:
    trust = published.store / "metadata/1.root.json"
    options = ("--trust", trust, "--cache", tmp_path / "cache", "--cache-limit", "64M")
    with serving(published.store) as url, Squid() as squid:
        for proxy in ("DIRECT", squid.url):
            with mounted(url, tmp_path / "mnt", "--proxy", proxy, *options) as mnt:
                told = json.loads(lazyfs("doctor", mnt, "--json").stdout)
                assert [one for one in told if one["level"] != "note"] == []
                assert "11 checks, 1 mounts: " in lazyfs("doctor", mnt).stdout


def test_dead_frozen_and_hidden_mounts(published: Published, tmp_path: Path) -> None:
    cache = ("--cache", tmp_path / "cache")
    with (
        mounted(published.store, tmp_path / "dead", *cache, "--no-keeper") as dead,
        mounted(published.store, tmp_path / "sick", *cache) as sick,
    ):
        with covered(sick):
            hidden = examine(look_around(mounts_at(str(sick)), None), checks("mounts"))
        only(hidden, Level.WARNING, "tmpfs other is mounted over it", f"umount {sick}")
        pid = status(dead)["pid"]
        os.kill(pid, signal.SIGKILL)
        until(lambda: gone(pid))
        with frozen(status(sick)["pid"]):
            mounts = [*mounts_at(str(dead)), *mounts_at(str(sick))]
            one, two = examine(look_around(mounts, None), checks("mounts"))
            done = lazyfs("doctor", dead, check=False)
    assert (f"{dead} is dead" in one.wrong, "replaces it" in one.do) == (True, True)
    assert (f"{sick} hangs" in two.wrong, f"lazyfs umount {sick}" in two.do) == (True, True)
    assert (done.returncode, f"error: {dead} is dead" in done.stdout) == (1, True)


@contextmanager
def covered(directory: Path) -> Iterator[None]:
    """Mounts a tmpfs over a directory for the block."""
    subprocess.run(["mount", "-t", "tmpfs", "other", directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


def test_a_deaf_daemon(published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "cache")
    with there as mnt, monkeypatch.context() as elsewhere:
        elsewhere.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path / "another"))
        findings = examine(look_around(mounts_at(str(mnt)), None), checks("mounts"))
    only(findings, Level.WARNING, "its daemon tells nothing", "LAZYFS_RUNTIME_DIR")


def test_the_caches_disk(config: Config, tmp_path: Path) -> None:
    assert found(config(), "cache") == []
    options = ("-t", "tmpfs", "-o", "size=32M,mode=0755,nr_inodes=4", "small")
    with mounted_disk(tmp_path / "disk", *options) as disk:
        memory, small = found(config(cache=str(disk / "cache")), "cache")
        assert ("is in memory (tmpfs)" in memory.wrong, "local disk" in memory.do) == (True, True)
        assert ("its disk has 32.0 MiB in all" in small.wrong, "resize" in small.do) == (True, True)
        (disk / "other").write_bytes(bytes(31 << 20))
        full, _ = found(config(cache=str(disk), cache_limit="30M"), "cache")
        assert ("is full" in full.wrong, "--cache-keep-free" in full.do) == (True, True)
        os.truncate(disk / "other", 12 << 20)
        _, crowded = found(config(cache=str(disk), cache_limit="24M"), "cache")
        assert ("there is room for" in crowded.wrong, "limit smaller" in crowded.do) == (True, True)
        for number in range(2):
            (disk / f"{number}").touch()
        inodes, _ = found(config(cache=str(disk), cache_limit="17M"), "cache")
        assert ("has no inode left" in inodes.wrong, "remove files" in inodes.do) == (True, True)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        closed, _ = found(config(cache=str(disk), cache_limit="17M"), "cache")
        assert ("read-only" in closed.wrong, "remount,rw" in closed.do) == (True, True)


def test_a_cache_of_somebody_else(config: Config, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    os.chown(cache, 65534, 65534)
    only(found(config(), "cache"), Level.ERROR, "belongs to user 65534", "change its owner")
    os.chown(cache, 0, 0)
    only(found(config(user="nobody"), "cache"), Level.ERROR, "as user 65534", "chown -R 65534")
    cache.chmod(0o777)
    only(found(config(), "cache"), Level.ERROR, "others than user 0", "chmod go-w")
    cache.rmdir()
    cache.touch()
    only(found(config(), "cache"), Level.ERROR, "Not a directory", "--cache")


def test_a_cache_on_a_mount_of_lazyfs_itself(published: Published, config: Config, tmp_path: Path) -> None:
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "own") as mnt:
        findings = found(config(cache=str(mnt / "lib")), "cache")
    assert any("is on fuse.lazyfs" in finding.wrong for finding in findings), findings


def test_the_runtime_directory(runtime: Path) -> None:
    assert found(None, "runtime directory") == []
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(runtime / "0-1048575.sock"))
    only(found(None, "runtime directory"), Level.NOTE, "0-1048575.sock", "removes them")
    runtime.chmod(0o777)
    only(found(None, "runtime directory"), Level.ERROR, str(runtime), "chmod 0700")


def test_the_fuse_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(None, "fuse") == []
    monkeypatch.setattr(fuse, "DEVICE", str(tmp_path / "fuse"))
    only(found(None, "fuse"), Level.ERROR, "does not exist", "modprobe fuse")
    (tmp_path / "fuse").mkdir()
    only(found(None, "fuse"), Level.ERROR, "cannot be opened by user 0: Is a directory", "chmod 0666")


def shown(*prefix: str, **options: object) -> str:
    """Returns the doctor's findings on a machine without mounts, in a process started by the command
    `prefix`, which takes rights away."""
    script = "from lazyfs.node.doctor import *; print(*examine(Surroundings([], [])), sep='\\n')"
    command = [*prefix, sys.executable, "-c", script]
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout  # type: ignore[call-overload,no-any-return]


def test_a_root_that_may_not_mount() -> None:
    assert "CAP_SYS_ADMIN" in shown("setpriv", "--bounding-set", "-sys_admin")
    assert "CAP_SYS_ADMIN" not in shown()


def test_a_user_who_is_not_root_may_mount_too() -> None:
    """The doctor's only finding: other users would not see the mount, because of Debian's default
    /etc/fuse.conf."""

    def as_nobody() -> list[str]:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        return [finding.wrong for finding in examine(Surroundings([], []), checks("fuse", "limits"))]

    answer = ask_one(as_nobody, 60)
    assert answer.came
    expected = [] if user_allow_other() else ["lacks user_allow_other"]
    assert [text in wrong for text, wrong in zip(expected, answer.value, strict=True)] == [True] * len(
        expected
    )


def test_few_open_files() -> None:
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))  # noqa: E731
    assert "this shell may open 512 files at most" in shown(preexec_fn=limit)


def test_little_memory() -> None:
    with control_group() as group:
        group.limit(100 << 20)
        said = shown(preexec_fn=group.enter)
        assert "this shell is in a control group of 100.0 MiB" in said
        assert "MemoryMax=" in said
        group.limit(1 << 30)
        assert "control group of" not in shown(preexec_fn=group.enter)


def test_a_privilege_that_cannot_be_gained() -> None:
    script = "from lazyfs.node.checks.fuse import gather; print(gather(None).no_new_privileges)"
    for prefix, said in ((["setpriv", "--no-new-privs"], "True\n"), ([], "False\n")):
        command = [*prefix, sys.executable, "-c", script]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == said


def test_a_check_that_hangs_or_fails_holds_up_no_other() -> None:
    def hang(_: Surroundings) -> None:
        time.sleep(1000)

    def fail(_: Surroundings) -> None:
        raise ZeroDivisionError("nought")

    def well(_: Surroundings) -> int:
        return 5

    def judge(_: object) -> list[Finding]:
        return [Finding(Level.ERROR, "judged", "do")]

    made = [Check(one.__name__, int, one, judge) for one in (hang, fail, well)]
    findings = examine(Surroundings([], []), made, seconds=3)
    assert [finding.check for finding in findings] == ["well", "hang", "fail"]
    assert "did not end in 3 s" in findings[1].wrong
    assert "ZeroDivisionError: nought" in findings[2].wrong


def test_wrong_places_are_refused(tmp_path: Path) -> None:
    done = subprocess.run([*LAZYFS, "doctor", tmp_path], check=False, capture_output=True, text=True)
    assert (done.returncode, "is no mount of lazyfs" in done.stderr) == (2, True)
