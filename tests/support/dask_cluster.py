"""A Dask cluster on this machine: a scheduler, and single-threaded worker processes that a test can kill."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.ports import free_port

READY_SECONDS = 60.0


ROOT = Path(__file__).parents[2]


def kill_at(number: int, work: Callable[..., Any], *arguments: Any) -> Any:
    """Runs a conversion in a worker. If the image is `team/appNUMBER`, kills the worker process instead."""
    if arguments[1].reference.repository == f"team/app{number}":
        os.kill(os.getpid(), signal.SIGKILL)
    return work(*arguments)


class DaskCluster:
    """The processes of a cluster."""

    def __init__(self, directory: Path, workers: int) -> None:
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self._directory = directory
        self._environment = {
            **os.environ,
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
            "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "false",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'cache'}",
        }
        port = self.address.rpartition(":")[2]
        self._scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", port)
        self.workers = [self.add_worker() for _ in range(workers)]

    def add_worker(self) -> "subprocess.Popen[bytes]":
        """Starts one more worker."""
        return self._start("worker", self.address, "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1")

    def _start(self, kind: str, *words: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *words, "--no-dashboard"]
        with (self._directory / f"{kind}.log").open("ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self._directory, env=self._environment
            )

    def wait(self) -> None:
        """Returns once all workers have joined the scheduler."""
        from distributed import Client

        end = time.monotonic() + READY_SECONDS
        while True:
            try:
                with Client(self.address, timeout=2, set_as_default=False) as client:
                    client.wait_for_workers(len(self.workers), timeout=end - time.monotonic())
                    return
            except OSError:
                if time.monotonic() > end:
                    raise

    def end(self) -> None:
        for process in (*self.workers, self._scheduler):
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait(20)


@contextmanager
def dask_cluster(directory: Path, workers: int) -> Iterator[DaskCluster]:
    """Yields a cluster once all its workers have joined."""
    cluster = DaskCluster(directory, workers)
    try:
        cluster.wait()
        yield cluster
    finally:
        cluster.end()
