"""Limits on memory, processes and time. A control group or rlimits enforce them, and the result says which of
the two."""

import json
import os
import resource
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.runtimes import limits
from lazyfs.runtimes.control_group import ControlGroup, Place, places
from lazyfs.runtimes.limits import Limits, keep, parse_seconds
from tests.support.busybox import busybox_root
from tests.support.control_group import groups_of_starts
from tests.support.docker import docker_daemon
from tests.support.open_paths import open_to_all
from tests.support.runtimes import lazyfs_of, run

EAT = "x=$(dd if=/dev/zero bs=1M count=300 2>/dev/null | tr '\\0' x); echo survived"
FORK = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do sleep 5 & done; echo all"
USER = 54325
"""The user id of these tests alone. RLIMIT_NPROC allows more processes if others of the same user end
meanwhile, such as those of tests beside these."""
WAYS = [("bubblewrap", None), ("crun", USER)]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = busybox_root(tmp_path_factory.mktemp("limits") / "image", "sh", "sleep", "dd", "tr", "cat", "true")
    open_to_all(root)
    return root


@pytest.fixture
def groups() -> Iterator[list[Path]]:
    with groups_of_starts() as found:
        yield found


def ended(
    image: Path,
    runtime: str,
    user: int | None,
    options: list[str],
    script: str,
    groups: Sequence[Path] = (),
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    command: list[str | Path] = [image, "--runtime", runtime, "--json", *options, "--", "sh", "-c", script]
    done = run(command, user=user, groups=groups)
    lines = [line for line in done.stderr.splitlines() if line.startswith("{")]
    assert len(lines) == 1, done.stderr
    return done, json.loads(lines[0])


def remaining(groups: list[Path]) -> list[Path]:
    """Returns the groups that starts in these groups have left."""
    return [path for group in groups for path in group.iterdir() if path.is_dir()]


@pytest.mark.root
@pytest.mark.parametrize(("runtime", "user"), WAYS)
def test_memory(image: Path, groups: list[Path], runtime: str, user: int | None) -> None:
    done, said = ended(image, runtime, user, ["--memory", "100M"], EAT, groups)
    assert "survived" not in done.stdout
    assert (said["failed"], done.returncode != 0) == ("program", True)
    if user is None:
        assert said["limits"]["memory"].startswith("a control group below /sys/fs/cgroup/memory")
        assert said["limit"] == "memory"
        assert "lazyfs: the program was ended: its memory was used up" in done.stderr
    else:
        assert said["limits"]["memory"].startswith("RLIMIT_DATA, for each process by itself")
    done, said = ended(image, runtime, user, ["--memory", "900M"], EAT, groups)
    assert (done.stdout, said["limit"]) == ("survived\n", None)
    assert remaining(groups) == []


@pytest.mark.root
@pytest.mark.parametrize(("runtime", "user"), WAYS)
def test_processes(image: Path, groups: list[Path], runtime: str, user: int | None) -> None:
    done, said = ended(image, runtime, user, ["--pids", "12"], FORK, groups)
    assert "all" not in done.stdout
    assert said["limits"]["pids"].startswith("a control group" if user is None else "RLIMIT_NPROC")
    done, _ = ended(image, runtime, user, ["--pids", "60"], FORK, groups)
    assert done.stdout == "all\n"
    assert remaining(groups) == []


@pytest.mark.root
def test_processes_of_a_user_whose_program_root_starts(image: Path) -> None:
    """Where no control group can be made, the limit is above what that user has, not above what root has."""
    hidden = ["unshare", "--mount", "sh", "-c", 'umount --recursive /sys/fs/cgroup && exec "$@"', "sh"]
    options = ["--user", str(USER), "--pids", "12", "--json", "--runtime", "bubblewrap"]
    start = [*lazyfs_of(None), "run", str(image), *options, "--", "sh", "-c", FORK]
    done = subprocess.run([*hidden, *start], capture_output=True, text=True, check=False)
    assert json.loads(done.stderr.splitlines()[-1])["limits"]["pids"].startswith("RLIMIT_NPROC")
    assert "can't fork" in done.stderr
    assert "all" not in done.stdout


@pytest.mark.root
@pytest.mark.parametrize(("runtime", "user"), WAYS)
def test_time(image: Path, runtime: str, user: int | None) -> None:
    done, said = ended(image, runtime, user, ["--time", "1"], "echo begun; exec sleep 1000")
    assert done.stdout == "begun\n"
    assert (done.returncode, said["limit"], said["failed"]) == (143, "time", "program")
    assert said["limits"] == {"time": "lazyfs, from the start"}
    assert "its time was used up" in done.stderr.splitlines()[0]
    done, said = ended(image, runtime, user, ["--time", "1:00"], "exit 3")
    assert (done.returncode, said["limit"]) == (3, None)


@pytest.mark.root
def test_a_program_that_ignores_the_end_of_its_time_is_killed(image: Path) -> None:
    script = "trap '' TERM; echo begun; while :; do sleep 1; done"
    done, said = ended(image, "bubblewrap", None, ["--time", "1"], script)
    assert (done.returncode, done.stdout, said["limit"]) == (137, "begun\n", "time")


@pytest.mark.root
def test_docker_keeps_limits_by_its_own_group(image: Path) -> None:
    with docker_daemon():
        done, said = ended(image, "docker", None, ["--memory", "100M", "--pids", "50"], EAT)
        assert (done.returncode, said["limit"], said["failed"]) == (137, "memory", "program")
        assert said["limits"]["memory"] == "the daemon's control group"
        done, said = ended(image, "docker", None, ["--time", "2"], "echo begun; exec sleep 1000")
        assert (done.returncode, said["limit"]) == (143, "time")


@pytest.mark.root
def test_limits_are_explained(image: Path) -> None:
    done = run([image, "--memory", "1G", "--time", "2h", "--explain", "--", "true"])
    assert "limit:     memory: by a control group below /sys/fs/cgroup/memory" in done.stdout
    assert "limit:     time: by lazyfs, from the start" in done.stdout


@pytest.mark.root
def test_a_mount_point_with_a_carriage_return_and_strange_bytes(image: Path, open_path: Path) -> None:
    """Such a mount of another program hides no control group from lazyfs, and prevents no start."""
    odd = os.fsencode(open_path) + b"/a\rb\xff\xc2\x85"
    os.mkdir(odd)
    script = 'mount -t tmpfs odd "$1"; shift; exec "$@"'
    start = [
        *lazyfs_of(None),
        "run",
        str(image),
        "--memory",
        "1G",
        "--json",
        "--runtime",
        "crun",
        "--",
        "true",
    ]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", odd, *start],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stderr)["limits"]["memory"].startswith(
        "a control group below /sys/fs/cgroup/memory"
    )


def test_what_nothing_can_keep_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "places", lambda _: {})
    with pytest.raises(UsageError, match="the kernel counts no processes of root's"):
        keep(Limits(processes=3), "x", user=0)
    kept = keep(Limits(memory=1 << 20, processes=3), "x", user=USER)
    assert kept.rlimits == ((resource.RLIMIT_DATA, 1 << 20), (resource.RLIMIT_NPROC, 3))
    assert kept.group is None


@pytest.mark.root
def test_the_limit_of_processes_is_above_what_the_user_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "places", lambda _: {})
    with subprocess.Popen(["sleep", "1000"], user=USER) as other:
        try:
            assert keep(Limits(processes=3), "x", user=USER).rlimits == ((resource.RLIMIT_NPROC, 4),)
        finally:
            other.kill()


def test_no_group_where_none_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    group = ControlGroup("x", {"memory": Place(str(tmp_path / "none"), 1)}, {"memory": 1})
    with pytest.raises(FileNotFoundError):
        group.make()
    assert list(tmp_path.iterdir()) == [tmp_path / "own"]
    assert places({}) == {}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5s", 1.5), ("15m", 900), ("2h", 7200), ("1d", 86400), ("1:30:00", 5400), ("2:05", 125)],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "x", "1w", "1:x", "nan", "inf"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="--time"):
        parse_seconds(text)


def test_the_network_can_be_called_on_and_off(image: Path) -> None:
    for word, expected in (("off", "lo\n"), ("none", "lo\n")):
        script = "cat /proc/net/dev | while read name rest; do case $name in *:) echo ${name%:};; esac; done"
        done = run([image, "--network", word, "--", "sh", "-c", script])
        assert done.stdout == expected
