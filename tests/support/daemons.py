"""Starts and stops a real server that belongs to one test."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.ports import free_port

SITE = Path(__file__).parents[2] / "tools" / "site"
"""The configuration shipped for sites; the tests use these files themselves."""

READY_SECONDS = 30


class Daemon:
    """A server in the foreground of its own process group. Can be killed and started again on its port."""

    name = "daemon"

    def __init__(self) -> None:
        # not under pytest's directory, which is 0700: these servers drop to users of their own
        self.directory = Path(tempfile.mkdtemp(prefix=f"lazyfs-{self.name}-"))
        self.directory.chmod(0o777)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str | Path]:
        """Returns the argv that runs the server in the foreground."""
        raise NotImplementedError

    def start(self) -> None:
        """Starts the server; returns when its port answers."""
        assert self._process is None
        with (self.directory / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [os.fspath(word) for word in self.command()],
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        end = time.monotonic() + READY_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > end:
                    self.kill()
                    text = (self.directory / "output").read_text(errors="replace")
                    raise AssertionError(f"{self.name} does not come up: {error}\n{text[-2000:]}") from None
            time.sleep(0.02)

    def kill(self) -> None:
        """Kills the server and all its workers at once; does nothing if it is not running."""
        process, self._process = self._process, None
        if process is not None:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    @property
    def running(self) -> bool:
        return self._process is not None

    def pause(self) -> None:
        """Stops the processes with SIGSTOP. The kernel still accepts connections, but nothing answers on
        them."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
