"""The program that uses the mount: a process that does every operation once, for one round.

`python -m benchmarks.filesystem.client ROOT PATHS.json PID [names]` prints two figures for each row: the wall
time of one operation, and the CPU time of this program, its children and the process PID together (PID 0: no
such process). With `names` it prints only the rows about names. The unit is microseconds, but seconds for
`find`, `tar` and the large file. CPU time does not grow while other processes have the CPU.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.filesystem.tree import LARGE


def drop(what: int) -> None:
    """Drops the caches of all filesystems. 1: pages, 2: names and inodes, 3: both."""
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write(str(what))
    time.sleep(0.3)  # time for the daemon to read the kernel's FORGET messages


def daemon_seconds(pid: int) -> float:
    """Returns the CPU time of a process, ended threads included."""
    # The clock that clock_getcpuclockid(3) gives for a process.
    return time.clock_gettime(~pid << 3 | 2) if pid else 0.0


def own_seconds() -> float:
    """Returns the CPU time of this process and of its ended children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


class Round:
    """Measures the operations one after the other."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.rows: dict[str, dict[str, float]] = {}

    def measure(self, row: str, work: Callable[[], Any], count: int = 0) -> None:
        """Measures `work`. If `count` is given, records the microseconds of each of its `count` operations;
        if it is 0, the seconds of the whole."""
        daemon, own, start = daemon_seconds(self._pid), own_seconds(), time.perf_counter()
        work()
        took = time.perf_counter() - start
        own, daemon = own_seconds() - own, daemon_seconds(self._pid) - daemon
        unit = 1e6 / count if count else 1.0
        self.rows[row] = {"value": took * unit, "cpu": (own + daemon) * unit, "daemon_cpu": daemon}


def stat_all(paths: list[str]) -> None:
    stat = os.stat
    for path in paths:
        stat(path)


def stat_missing(paths: list[str]) -> None:
    stat = os.stat
    for path in paths:
        try:
            stat(path)
        except FileNotFoundError:
            continue
        raise AssertionError(f"{path} should be missing")


def read_all(paths: list[str]) -> None:
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        os.read(fd, 1 << 17)
        os.close(fd)


def read_large(path: str) -> None:
    buffer = bytearray(1 << 20)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def measure_names(done: Round, every: list[str]) -> None:
    """Measures the rows that read no file contents."""
    missing = [path + ".none" for path in every]
    drop(2)
    done.measure("stat, dropped", lambda: stat_all(every), len(every))
    done.measure("stat, repeated", lambda: stat_all(every), len(every))
    done.measure("missing name", lambda: stat_missing(missing), len(missing))
    done.measure("missing name, repeated", lambda: stat_missing(missing), len(missing))


def measure_contents(done: Round, small: list[str]) -> None:
    """Measures the rows that read file contents."""
    drop(3)
    done.measure("open+read+close, dropped", lambda: read_all(small), len(small))
    drop(2)
    done.measure("open+read+close, pages warm", lambda: read_all(small), len(small))
    done.measure("open+read+close, repeated", lambda: read_all(small), len(small))
    drop(2)
    done.measure("find, dropped", lambda: run("find", "."))
    done.measure("find, repeated", lambda: run("find", "."))
    done.measure("find -size, repeated", lambda: run("find", ".", "-size", "+1000000k"))
    drop(3)
    tar = "tar -cf - usr | cat > /dev/null"
    done.measure("tar, dropped", lambda: run("sh", "-c", tar))
    done.measure("tar, repeated", lambda: run("sh", "-c", tar))
    drop(3)
    done.measure("large file, dropped", lambda: read_large(LARGE))
    done.measure("large file, repeated", lambda: read_large(LARGE))


def main() -> None:
    """Runs the round. Looks up names relative to the tree's top, so that the depth of the mount point does
    not matter."""
    _, root, listed, pid, *only = sys.argv
    with open(listed) as file:
        paths = json.load(file)
    os.chdir(root)
    done = Round(int(pid))
    measure_names(done, paths["every"])
    if only != ["names"]:
        measure_contents(done, paths["small"])
    print(json.dumps(done.rows))


if __name__ == "__main__":
    main()
