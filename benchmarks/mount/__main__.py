"""The processor time of `lazyfs mount`, beside another revision's.

    python -m benchmarks.mount [--quick] [--json FILE] [--against CHECKOUT]

Needs root and nginx. Each figure is the user and system time of all processes of a mount (the command, the
daemon and its keeper), as their control group counts it. It is taken twice: when the command returns, and
when the daemon has nothing left to do. Both revisions are installed as users have them, and mount their own
stores of the same image from one web server. The sides take turns; in every other pair the other one begins.
Caches and stores are in memory, so that no disk is measured.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.facts import gather
from benchmarks.mount.report import Result, Sample, Side, document
from benchmarks.startup import origin, services
from benchmarks.startup.group import Group
from benchmarks.startup.images import shell_image
from benchmarks.startup.installed import installed
from benchmarks.startup.sides import Lazyfs, Place
from lazyfs.daemon.answering_mount import ALONE

CHECKOUT: Final = Path(__file__).resolve().parents[2]
PAIRS: Final = 21
QUIET_SECONDS: Final = 0.5
"""A daemon that takes less than QUIET_CPU_SECONDS in this time has nothing left to do."""
QUIET_CPU_SECONDS: Final = 0.002
_LONGEST: Final = 60.0
"""Upper limit, in seconds, for a command, and for the daemon's work after it."""


class Mounter:
    """One side: a revision that mounts its store, and unmounts it."""

    def __init__(self, label: str, checkout: Path, work: Path, port: int) -> None:
        """Installs the revision of a checkout, and publishes the image with it into the files that are served
        at `port`. `label`: a word for the names of its files."""
        self.revision = gather(checkout).commit
        self._label = label
        python = installed(checkout, work / f"installed-{label}")
        trust = origin.publish([shell_image()], work / "files", work / f"keys-{label}", label, python)
        self._side = Lazyfs(label, str(trust), store=label, python=python)
        self._place = Place(str(work / f"worker-{label}"), "", f"127.0.0.1:{port}")
        self._turn = 0

    def mount(self, *, warm: bool) -> Sample:
        """Mounts, measures and unmounts. Without `warm` the directory of the cache is empty before. Raises
        RuntimeError if the mount fails."""
        directory = Path(self._place.directory)
        if not warm:
            shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(exist_ok=True)
        self._turn += 1
        group = Group(f"{directory.parent.name}-{self._label}-{self._turn}")
        try:
            (step,) = self._side.fetch(self._place)
            command = ["env", *(f"{name}={value}" for name, value in step.env.items()), *step.argv]
            done = subprocess.run(
                group.entering(command), check=False, capture_output=True, text=True, timeout=_LONGEST
            )
            answered = group.cpu_seconds()
            if done.returncode:
                raise RuntimeError(f"{self.revision}: the mount exited {done.returncode}: {done.stderr}")
            return Sample(answered, _once_idle(group))
        finally:
            self._side.clean(self._place)
            group.remove()


def _once_idle(group: Group) -> float:
    """Waits until the group has nothing to do; returns its processor seconds. Raises RuntimeError if it works
    for too long."""
    time.sleep(ALONE)  # a warm mount loads the rest only then
    end = time.monotonic() + _LONGEST
    taken = group.cpu_seconds()
    while time.monotonic() < end:
        time.sleep(QUIET_SECONDS)
        before, taken = taken, group.cpu_seconds()
        if taken - before < QUIET_CPU_SECONDS:
            return taken
    raise RuntimeError(f"a daemon is still busy {_LONGEST:g} s after the answer")


def measure(mounters: list[Mounter], pairs: int) -> list[Side]:
    """Mounts in turns; returns each side with its samples."""
    sides = []
    for warm in (True, False):
        found = [Side(mounter.revision, warm, []) for mounter in mounters]
        both = list(zip(mounters, found, strict=True))
        for mounter in mounters:
            mounter.mount(warm=False)  # fills the cache, and the pages of the interpreter's files
        for turn in range(pairs):
            for mounter, side in both if turn % 2 else reversed(both):
                side.samples.append(mounter.mount(warm=warm))
            print(f"{turn + 1}/{pairs} {'warm' if warm else 'cold'}", file=sys.stderr, flush=True)
        sides += found
    return sides


def main() -> None:
    """Reads the command line, measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mount")
    parser.add_argument("--quick", action="store_true", help="five pairs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the result is written")
    parser.add_argument(
        "--against", type=Path, metavar="CHECKOUT", help="another revision, in which tools/setup has been run"
    )
    options = parser.parse_args()
    command = "python -m benchmarks.mount" + (" --quick" if options.quick else "")
    command += " --against CHECKOUT" if options.against else ""
    work = Path(tempfile.mkdtemp(prefix="lazyfs-mount-", dir="/dev/shm"))
    try:
        with ExitStack() as stack:
            (work / "files").mkdir()
            port = stack.enter_context(services.nginx(work / "files", work))
            mounters = [Mounter("ours", CHECKOUT, work, port)]
            if options.against:
                mounters.append(Mounter("theirs", options.against.resolve(), work, port))
            sides = measure(mounters, 5 if options.quick else PAIRS)
    finally:
        shutil.rmtree(work)
    result = Result("mount", command, gather(CHECKOUT), sides)
    print(document(result))
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))


if __name__ == "__main__":
    main()
