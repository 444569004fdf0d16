"""One start: the fetch, the run of the program, and the measurements of both."""

import itertools
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.startup.group import Group, peak_memory
from benchmarks.startup.services import Relayed
from benchmarks.startup.sides import Place, Side, Step
from benchmarks.startup.workloads import Workload
from tests.support.usage import disk_usage

_NUMBER = itertools.count()
_LIMIT: Final = 1800
"""Timeout of each command of a start, in seconds."""


class Start(msgspec.Struct, frozen=True):
    """The measured times and counts of one start."""

    seconds_to_fetch: float
    """Seconds until the pull or the mount had ended and the program was started."""
    seconds_to_output: float
    """Seconds until the program's first byte of output."""
    seconds: float
    """Seconds until the program had ended."""
    connections: int
    requests: int
    """HTTP requests that reached the origin."""
    bytes_from_origin: int
    disk_bytes: int
    """Disk usage of the worker's directories at the end, in bytes."""
    peak_memory: int
    """Peak of the anonymous and shared memory of all processes of the side together, in bytes."""
    cpu_seconds: float
    cpu_to_fetch: float = 0.0
    """Processor seconds until the pull or mount had returned."""
    waits: int | None = None
    """Length of the longest chain of requests in which each was sent after the previous answer had ended.
    None in results from before this was counted."""


def run_start(side: Side, workload: Workload, place: Place, relayed: Relayed) -> Start:
    """Makes one start. Raises RuntimeError if a command fails or the program's answer is wrong."""
    group = Group(f"lazyfs-bench-{os.getpid()}-{next(_NUMBER)}")
    place = msgspec.structs.replace(place, group=group.name)
    before = relayed.counts()
    try:
        with peak_memory(group) as peak:
            begin = time.monotonic()
            for step in side.fetch(place):
                _finish(step, group)
            fetched = time.monotonic()
            cpu_to_fetch = group.cpu_seconds()
            step = side.run(place, workload.command)
            first, output = _first_output(step, group)
            end = time.monotonic()
        passed = relayed.counts().minus(before)
        cpu = group.cpu_seconds()
        disk = disk_usage(Path(place.directory))
        if workload.wrong(output):
            raise RuntimeError(f"{side.name}: {workload.name} printed {output[-500:]!r}")
    finally:
        side.clean(place)
        group.remove()
    return Start(
        seconds_to_fetch=fetched - begin,
        seconds_to_output=first - begin,
        seconds=end - begin,
        connections=passed.connections,
        requests=passed.requests,
        waits=passed.waits,
        bytes_from_origin=passed.bytes_down,
        disk_bytes=disk,
        peak_memory=peak.bytes,
        cpu_seconds=cpu,
        cpu_to_fetch=cpu_to_fetch,
    )


def _finish(step: Step, group: Group) -> None:
    done = subprocess.run(
        group.entering(step.argv),
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **step.env},
        timeout=_LIMIT,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(step.argv)} exited {done.returncode}: {done.stdout[-2000:].decode()}")


def _first_output(step: Step, group: Group) -> tuple[float, bytes]:
    with subprocess.Popen(
        group.entering(step.argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **step.env},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        limit = threading.Timer(_LIMIT, group.kill)
        limit.start()
        try:
            output = os.read(process.stdout.fileno(), 4096)
            first = time.monotonic()
            output += process.stdout.read()
            errors = process.stderr.read()
        finally:
            limit.cancel()
    if process.returncode:
        raise RuntimeError(f"{' '.join(step.argv)} exited {process.returncode}: {errors[-2000:].decode()}")
    return first, output
