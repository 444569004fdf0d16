"""`python -m benchmarks.filesystem.stall [--json FILE] [--kinds direct,pyfuse3]`: does a miss delay a stat?

Eight programs read files that are not cached, over a line of 50 ms. Meanwhile another program stats names
that the kernel has not seen yet, in a directory whose catalog is loaded. The output shows the times of these
stats, and of stats while nobody reads. The program that stats and the daemon have real-time priority
(`chrt`), because here, unlike on a real node, readers, relay and origin share the machine.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import BOUND_MISSED
from benchmarks.facts import gather
from benchmarks.filesystem.servers import LAZYFS
from benchmarks.ports import free_ports

READERS = 8
RTT_MS = 50
MBIT = 1000
FILES = 1600
FILE_SIZE = 128 << 10
NAMES = 12_000
STATS = 3000
PAUSE = 0.001
"""Seconds between two stats, about as when a program starts."""
FIRST = ["chrt", "--fifo", "1"]

READER = """
import sys
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        file.read()
"""


def make(root: Path) -> None:
    """Makes files of incompressible bytes to read, and files whose names are looked up."""
    source = random.Random(3)
    (root / "data").mkdir(parents=True)
    for number in range(FILES):
        (root / "data" / f"f{number}").write_bytes(source.randbytes(FILE_SIZE))
    (root / "names").mkdir()
    for number in range(NAMES):
        (root / "names" / f"n{number}").touch()


def stats(paths: list[Path]) -> list[float]:
    """Stats each path once; returns the duration of each stat in microseconds."""
    took = []
    for path in paths:
        start = time.perf_counter()
        os.stat(path)
        took.append((time.perf_counter() - start) * 1e6)
        time.sleep(PAUSE)
    return took


def summary(took: list[float]) -> dict[str, float]:
    """Returns name -> quantile of the durations, in microseconds."""
    ordered = sorted(took)
    places = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
    found = {name: round(ordered[int(len(ordered) * at)], 1) for name, at in places.items()}
    return found | {"max": round(ordered[-1], 1)}


@contextmanager
def line(store: Path) -> Iterator[str]:
    """Runs a server of the store behind a relay; yields the relay's URL."""
    origin, relay = free_ports(2)
    serve = [*LAZYFS, "serve", os.fspath(store), "--listen", f"127.0.0.1:{origin}"]
    delay = [sys.executable, "-m", "tools.relay", "--rtt-ms", str(RTT_MS), "--mbit", str(MBIT)]
    delay += ["--forward", f"127.0.0.1:{relay}=127.0.0.1:{origin}"]
    with ExitStack() as stack:
        for command in (serve, delay):
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            stack.callback(process.terminate)
            assert process.stdout is not None
            process.stdout.readline()  # each command prints a line when it is ready
        yield f"http://127.0.0.1:{relay}"


def measure(kind: str, store: Path, url: str, directory: Path) -> dict[str, Any]:
    """Measures stats in one session: while nobody reads, and while eight programs wait for data."""
    mnt = directory / f"mnt-{kind}"
    mnt.mkdir()
    mount = [*FIRST, *LAZYFS, "mount", url, os.fspath(mnt), "--fuse", kind]
    mount += ["--trust", os.fspath(store / "metadata/1.root.json"), "--cache", str(directory / kind)]
    subprocess.run(mount, check=True)
    readers: list[subprocess.Popen[bytes]] = []
    try:
        names = [mnt / "tree/names" / f"n{number}" for number in range(NAMES)]
        random.Random(5).shuffle(names)
        os.stat(names.pop())  # loads the directory's catalog
        idle = stats([names.pop() for _ in range(STATS)])
        for number in range(READERS):
            files = [str(mnt / f"tree/data/f{at}") for at in range(number, FILES, READERS)]
            readers.append(subprocess.Popen([sys.executable, "-c", READER, *files]))
        time.sleep(0.5)
        before = status(mnt)
        busy = stats([names.pop() for _ in range(STATS)])
        after = status(mnt)
        still = sum(reader.poll() is None for reader in readers)
        misses = after["misses"] - before["misses"]
        if still < READERS or not misses:
            raise RuntimeError(f"only {still} readers were still reading, {misses} misses: use more files")
        return {"idle_us": summary(idle), "busy_us": summary(busy), "misses_meanwhile": misses}
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()
        subprocess.run(["umount", "-l", mnt], check=True)


def status(mnt: Path) -> dict[str, Any]:
    """Returns the daemon's counters."""
    done = subprocess.run([*LAZYFS, "status", mnt, "--json"], check=True, capture_output=True)
    counters: dict[str, Any] = json.loads(done.stdout)["counters"]
    return counters


def table(result: dict[str, Any], kinds: list[str]) -> str:
    """Returns a Markdown table of the times of a stat in microseconds."""
    heads = list(result[kinds[0]]["busy_us"])
    lines = [
        "| session | while | " + " | ".join(heads) + " | misses |",
        "|---|---|" + "---:|" * (len(heads) + 1),
    ]
    for kind in kinds:
        one = result[kind]
        for what, key, misses in (
            ("nobody reads", "idle_us", ""),
            (f"{result['readers']} readers miss", "busy_us", f"{one['misses_meanwhile']:,}"),
        ):
            lines.append(f"| {kind} | {what} | " + " | ".join(map(str, one[key].values())) + f" | {misses} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.filesystem.stall")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--kinds", default="direct,pyfuse3")
    asked = parser.parse_args()
    # This process makes the stats. Its children begin with the usual priority; the daemon is started with
    # `chrt`.
    os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    result: dict[str, Any] = {
        "facts": msgspec.to_builtins(gather(Path(__file__).resolve().parents[2])),
        "readers": READERS, "rtt_ms": RTT_MS, "mbit": MBIT, "file_bytes": FILE_SIZE, "stats": STATS,
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="lazyfs-bench-") as made:
        directory = Path(made)
        store, keys = directory / "store", directory / "keys"
        make(directory / "tree")
        init = [*LAZYFS, "repo", "init", os.fspath(store), "--name", "bench", "--keys", os.fspath(keys)]
        publish = [*LAZYFS, "publish", f"dir:{directory / 'tree'}", os.fspath(store), "--as", "tree"]
        for command in (init, [*publish, "--keys", os.fspath(keys)]):
            subprocess.run(command, check=True, capture_output=True)
        with line(store) as url:
            for kind in asked.kinds.split(","):
                result[kind] = measure(kind, store, url, directory)
                print(f"{kind}: done", file=sys.stderr)
    print("Command: `python -m benchmarks.filesystem.stall`; a stat in microseconds.\n")
    print(table(result, asked.kinds.split(",")))
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if result.get("direct", {}).get("busy_us", {}).get("p99", 0) < 1000 else BOUND_MISSED


if __name__ == "__main__":
    sys.exit(main())
