"""`lazyfs exec` in jobs of a one-node Slurm. However a job ends, nothing of it stays on the node."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import lazyfs, new_repository
from tests.support.open_paths import open_to_all
from tests.support.runtimes import NOBODY, lazyfs_of
from tests.support.slurm import Slurm, one_node_slurm
from tests.support.until import until

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(600)]
AT = "/cvmfs/slurm.example"
ALLOCATE = "import time; kept = bytearray(400 << 20); print('allocated', flush=True); time.sleep(1000)"


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with one_node_slurm() as found:
        yield found


@pytest.fixture(scope="module")
def store(slurm: Slurm) -> Path:
    work = slurm.work / "repository"
    (work / "tree").mkdir(parents=True)
    (work / "tree/file").write_text("from the mount\n")
    store, keys = new_repository(work)
    lazyfs("publish", f"dir:{work / 'tree'}", store, "--as", "tree", "--keys", keys)
    open_to_all(store)
    cache = slurm.work / "cache"
    cache.mkdir(mode=0o700)
    os.chown(cache, NOBODY, NOBODY)
    return store


def _command(slurm: Slurm, store: Path, *command: str) -> str:
    """Returns a line for a job script that runs a command in `lazyfs exec`."""
    start = [*lazyfs_of(NOBODY)[4:], "exec", "--mount", f"{store}={AT}", "--cache", str(slurm.work / "cache")]
    words = [*start, "--trust", str(store / "metadata/1.root.json"), "--", *command]
    return " ".join(f"'{word}'" for word in words)


def _running(slurm: Slurm, job: str, word: str) -> None:
    until(lambda: word in slurm.output(job), 60)
    assert slurm.state(job) == "RUNNING"


def _ended(slurm: Slurm, job: str, seconds: float = 30) -> str:
    until(lambda: slurm.state(job) not in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"), seconds)
    return slurm.state(job)


def _remains(slurm: Slurm) -> list[str]:
    """Returns what is left of the jobs on the node: mounts, processes and control sockets."""
    found = [
        line for line in Path("/proc/mounts").read_text(errors="surrogateescape").splitlines() if AT in line
    ]
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{name}/cmdline").read_bytes()
            if os.fsencode(slurm.work / "cache") in line or b"kept = bytearray" in line:
                found.append(name)
    return [*found, *(str(path) for path in Path(f"/tmp/lazyfs-{NOBODY}").glob("*.sock"))]


def test_a_job_reads_from_its_mount_and_its_code_comes_through(slurm: Slurm, store: Path) -> None:
    job = slurm.submit(_command(slurm, store, "sh", "-c", f"cat {AT}/tree/file; exit 7"), user=NOBODY)
    assert _ended(slurm, job) == "FAILED"
    assert "ExitCode=7:0" in slurm.ask("scontrol", "show", "job", job)
    assert slurm.output(job) == "from the mount\n"
    assert _remains(slurm) == []


def test_scancel_leaves_nothing(slurm: Slurm, store: Path) -> None:
    for options in ((), ("--signal=KILL",), ("--full", "--signal=KILL")):
        script = f"cat {AT}/tree/file; setsid sleep 1000"
        job = slurm.submit(_command(slurm, store, "sh", "-c", script), user=NOBODY)
        _running(slurm, job, "from the mount")
        slurm.ask("scancel", *options, job)
        _ended(slurm, job)
        until(lambda: _remains(slurm) == [], 5)


def test_the_time_limit_leaves_nothing(slurm: Slurm, store: Path) -> None:
    script = f"trap '' TERM; cat {AT}/tree/file; while :; do sleep 1; done"
    job = slurm.submit(_command(slurm, store, "sh", "-c", script), "--time=1", user=NOBODY)
    _running(slurm, job, "from the mount")
    assert _ended(slurm, job, 200) == "TIMEOUT"
    until(lambda: _remains(slurm) == [], 5)


def test_out_of_memory_leaves_nothing(slurm: Slurm, store: Path) -> None:
    command = _command(slurm, store, "/usr/bin/python3", "-c", ALLOCATE).replace("'allocated'", '"allocated"')
    job = slurm.submit(command, "--mem=300", user=NOBODY)
    assert _ended(slurm, job, 120) in ("OUT_OF_MEMORY", "CANCELLED", "FAILED")
    assert "exceeded memory limit" in slurm.output(job)
    until(lambda: _remains(slurm) == [], 5)


def test_a_prolog_mounts_for_the_node_and_the_epilog_unmounts(slurm: Slurm, store: Path) -> None:
    """Follows docs/running.md: the prolog mounts for the whole node, because a prolog runs outside the job's
    mount namespace and control group."""
    at, cache = slurm.work / "node", slurm.work / "node-cache"
    at.mkdir()
    program = f"cd {Path(__file__).parents[2]} && {sys.executable} -m lazyfs"
    trust = f"--trust {store}/metadata/1.root.json"
    prolog, epilog = slurm.work / "prolog", slurm.work / "epilog"
    prolog.write_text(
        f"#!/bin/sh\nmountpoint -q {at} && exit 0\n{program} mount {store} {at} {trust} --cache {cache}\n"
    )
    epilog.write_text(f"#!/bin/sh\n{program} umount {at}\n")
    try:
        job = slurm.submit(f"cat {at}/tree/file", user=NOBODY)
        assert _ended(slurm, job) == "COMPLETED"
        assert slurm.output(job) == "from the mount\n"
        until(lambda: not os.path.ismount(at), 10)
    finally:
        for script in (prolog, epilog):
            script.write_text("#!/bin/sh\nexit 0\n")
    assert _remains(slurm) == []
