"""A control group for all processes of one start, including daemons. It measures their CPU time and
memory."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_PAUSE: Final = 0.05
"""Seconds between two measurements of the group's memory."""


class Group:
    """A control group below the machine's cpuacct hierarchy (version 1) or unified hierarchy (version 2).
    Needs root."""

    def __init__(self, name: str) -> None:
        self.name = name
        """Path of this group, for tools that put their processes into groups of their own."""
        self._hierarchy, self._v1 = _hierarchy()
        self.directory = self._hierarchy / name
        self.directory.mkdir()

    def entering(self, argv: list[str]) -> list[str]:
        """Returns a command that runs `argv` inside the group."""
        return ["sh", "-c", 'echo $$ >"$0"; exec "$@"', str(self.directory / "cgroup.procs"), *argv]

    def cpu_seconds(self) -> float:
        """Returns the user and system time of all processes that are or were in the group or below it."""
        if self._v1:
            return int((self.directory / "cpuacct.usage").read_text()) / 1e9
        usage = (self.directory / "cpu.stat").read_text().split()
        return int(usage[usage.index("usage_usec") + 1]) / 1e6

    def processes(self) -> set[int]:
        """Returns the ids of the processes that are now in the group or below it."""
        found: set[int] = set()
        for members in self.directory.rglob("cgroup.procs"):
            try:
                found.update(map(int, members.read_text().split()))
            except OSError:
                continue  # the group below has vanished meanwhile
        return found

    def memory(self) -> int:
        """Returns the bytes that the kernel cannot drop: anonymous and shared memory of all processes in the
        group."""
        return sum(map(_resident, self.processes()))

    def kill(self) -> None:
        """Kills the processes in the group."""
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def remove(self) -> None:
        """Kills the processes left in the group (casync keeps running after its unmount), and removes the
        group."""
        end = time.monotonic() + 10
        self.kill()
        below = sorted((path for path in self.directory.rglob("*") if path.is_dir()), reverse=True)
        for directory in (*below, self.directory):
            while directory.exists():
                try:
                    directory.rmdir()
                except OSError:
                    if time.monotonic() > end:
                        raise RuntimeError(
                            f"processes {sorted(self.processes())} outlived their start in {self.name}"
                        ) from None
                    time.sleep(0.05)


def _hierarchy() -> tuple[Path, bool]:
    unified = None
    for line in os.fsdecode(Path("/proc/mounts").read_bytes()).splitlines():
        _, place, kind, options = line.split()[:4]
        if kind == "cgroup" and "cpuacct" in options.split(","):
            return Path(place), True
        if kind == "cgroup2":
            unified = Path(place)
    if unified is None:
        raise RuntimeError("/proc/mounts shows no cgroup filesystem: CPU time cannot be measured")
    return unified, False


def _resident(process: int) -> int:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return sum(int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssShmem") if name in fields)


class Peak:
    """The largest memory measured in the group."""

    def __init__(self) -> None:
        self.bytes = 0


@contextmanager
def peak_memory(group: Group) -> Iterator[Peak]:
    """Measures the memory of the group during the block; yields the peak."""
    peak, stop = Peak(), threading.Event()

    def watch() -> None:
        while not stop.wait(_PAUSE):
            peak.bytes = max(peak.bytes, group.memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()
