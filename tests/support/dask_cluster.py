"""A Dask cluster on this machine: a scheduler, and worker processes that a test can kill."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.ports import free_port

READY_SECONDS = 60.0


ROOT = Path(__file__).parents[2]


class DaskCluster:
    """The processes of a cluster. If a worker dies, the tasks that it had fail without a retry."""

    def __init__(self, directory: Path, workers: int, threads: int = 1) -> None:
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self._directory = directory
        self._environment = {
            **os.environ,
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
            "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "false",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'cache'}",
        }
        port = self.address.rpartition(":")[2]
        self._scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", port)
        self.workers: list[subprocess.Popen[bytes]] = []
        for _ in range(workers):
            self.add_worker(threads)

    def add_worker(self, threads: int = 1) -> None:
        """Starts one more worker."""
        words = self.address, "--nthreads", str(threads), "--no-nanny", "--host", "127.0.0.1"
        self.workers.append(self._start("worker", *words))

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
def dask_cluster(directory: Path, workers: int, threads: int = 1) -> Iterator[DaskCluster]:
    """Yields a cluster once all its workers, each with this number of threads, have joined."""
    cluster = DaskCluster(directory, workers, threads)
    try:
        cluster.wait()
        yield cluster
    finally:
        cluster.end()
