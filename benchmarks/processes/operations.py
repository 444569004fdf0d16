"""The duration of each FUSE request of one mount, from the kernel's tracepoints `fuse_request_send` and
`fuse_request_end` (Linux 6.12): the same measurement, at the same cost, for every FUSE server."""

import math
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import run
from typing import Final

import msgspec

_BUFFER_KB: Final = 32 << 10
"""Size of each processor's trace buffer: room for 200,000 requests."""
_SENT: Final = re.compile(
    r" (\d+\.\d+): fuse_request_send: connection \d+ req (\d+) opcode \d+ \(FUSE_(\w+)\)"
)
_ENDED: Final = re.compile(r" (\d+\.\d+): fuse_request_end: connection \d+ req (\d+) ")


class Operation(msgspec.Struct, frozen=True):
    """The requests of one type."""

    count: int
    """The number of requests. Not named as a count of `compare`: which process asks first decides it."""
    p50_us: float
    p99_us: float
    max_us: float


class Tracer:
    """The tracepoints of FUSE, in a trace buffer of this process's own."""

    def __init__(self, tracefs: Path) -> None:
        self._instance = tracefs / "instances" / f"lazyfs-bench-{os.getpid()}"
        self._instance.mkdir()
        self._write("buffer_size_kb", str(_BUFFER_KB))
        self._write("trace_clock", "mono")

    def close(self) -> None:
        self._instance.rmdir()

    def start(self, mountpoint: Path) -> None:
        """Begins to record the requests of one mount."""
        device = os.stat(mountpoint).st_dev
        connection = os.major(device) << 20 | os.minor(device)  # the kernel's own form of a device number
        self._write("trace", "")
        for event in ("fuse_request_send", "fuse_request_end"):
            self._write(f"events/fuse/{event}/filter", f"connection == {connection}")
            self._write(f"events/fuse/{event}/enable", "1")

    def stop(self) -> dict[str, Operation]:
        """Ends the recording. Returns type of request -> its requests, without those that get no answer.
        Raises RuntimeError if the kernel has dropped records."""
        self._write("events/fuse/enable", "0")
        for stats in self._instance.glob("per_cpu/cpu*/stats"):
            if "overrun: 0\n" not in stats.read_text():
                raise RuntimeError(f"more requests than fit into {_BUFFER_KB} KiB of trace buffer")
        return durations((self._instance / "trace").read_text())

    def _write(self, name: str, text: str) -> None:
        (self._instance / name).write_text(text)


def durations(trace: str) -> dict[str, Operation]:
    """Returns type of request -> its requests, from the text of a trace."""
    sent = {number: (float(at), name) for at, number, name in _SENT.findall(trace)}
    took: dict[str, list[float]] = defaultdict(list)
    for at, number in _ENDED.findall(trace):
        if number in sent:
            begun, name = sent[number]
            took[name].append((float(at) - begun) * 1e6)
    return {name: _summary(sorted(ordered)) for name, ordered in sorted(took.items())}


def _summary(ordered: list[float]) -> Operation:
    def quantile(share: float) -> float:
        return round(ordered[math.ceil(len(ordered) * share) - 1], 1)

    return Operation(len(ordered), quantile(0.5), quantile(0.99), quantile(1))


@contextmanager
def tracer(directory: Path) -> Iterator[Tracer]:
    """Mounts tracefs in a directory for the block; yields a tracer."""
    tracefs = directory / "tracefs"
    tracefs.mkdir()
    run(["mount", "-t", "tracefs", "none", os.fspath(tracefs)], check=True)
    try:
        made = Tracer(tracefs)
        try:
            yield made
        finally:
            made.close()
    finally:
        run(["umount", "-l", os.fspath(tracefs)], check=True)
