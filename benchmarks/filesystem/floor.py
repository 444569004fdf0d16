"""The lowest possible cost on this machine: C programs that answer LOOKUP from a table, for the same names.

`device` reads requests from /dev/fuse and writes the answers to it, which is the cost of the kernel alone.
`libfuse` uses the same table with libfuse, in the loop of CVMFS's client, which is the lowest possible cost
of that client. `uring` takes requests over io_uring, if the kernel supports this.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.filesystem import report
from benchmarks.filesystem.servers import pin

SOURCES = Path(__file__).with_name("floors")
_SWITCH = Path("/sys/module/fuse/parameters/enable_uring")
"""Contains Y if the kernel lets new mounts use io_uring. The file does not exist before Linux 6.14."""


def measure(directory: Path, listed: Path, rounds: int) -> report.Medians:
    """Measures the rows about names on one CPU. Returns the medians: program -> row -> {"value", "cpu",
    "daemon_cpu"}. `uring` is missing if the kernel lacks it. Needs root, cc and libfuse3's headers."""
    names = directory / "names"
    names.write_text("".join(path + "\n" for path in json.loads(listed.read_text())["every"]))
    programs = ["device", "libfuse", *(["uring"] if _SWITCH.exists() else [])]
    found: report.Rounds = {name: [] for name in programs}
    for name in programs:
        subprocess.run(_compile(name, directory), check=True)
        with _mounted(directory / name, names) as (mnt, pid):
            command = [sys.executable, "-m", "benchmarks.filesystem.client"]
            command += [os.fspath(mnt), os.fspath(listed), pid, "names"]
            for _ in range(rounds):
                done = subprocess.run(pin(command, True), check=True, capture_output=True, text=True)
                found[name].append(json.loads(done.stdout))
    return report.medians(found)


def _compile(name: str, directory: Path) -> list[str]:
    """Returns the command that compiles a program into `directory`."""
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "fuse3"], check=True, capture_output=True, text=True
    ).stdout.split()
    return ["cc", "-O2", "-pthread", "-o", os.fspath(directory / name), f"{SOURCES / name}.c", *flags]


@contextmanager
def _mounted(program: Path, names: Path) -> Iterator[tuple[Path, str]]:
    """Mounts with a program; yields the mount point and the program's process id."""
    mnt = program.with_name(f"mnt-{program.name}")
    mnt.mkdir()
    with _uring_allowed():
        subprocess.run(pin([os.fspath(program), os.fspath(mnt), os.fspath(names)], True), check=True)
    try:
        found = ["pgrep", "-n", "-f", f"^{program} {mnt} "]
        yield mnt, subprocess.run(found, check=True, capture_output=True, text=True).stdout.strip()
    finally:
        subprocess.run(["umount", "-l", mnt], check=True)


@contextmanager
def _uring_allowed() -> Iterator[None]:
    """Allows FUSE mounts to use io_uring during the block. Only mounts that ask for it use it."""
    before = _SWITCH.read_text() if _SWITCH.exists() else None
    if before is not None:
        _SWITCH.write_text("Y")
    try:
        yield
    finally:
        if before is not None:
            _SWITCH.write_text(before)
