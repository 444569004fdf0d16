"""A runtime directory for one test. At the test's end, its mounts are removed."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.daemon import control_client
from lazyfs.system import mountpoint as points
from lazyfs.system.mount_table import Mount


@contextmanager
def runtime_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Gives the test its own directories for control sockets and for caches; yields the first one. At the
    end, removes every mount below `tmp_path`."""
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    yield tmp_path / "run"
    for mount in points.mounts():
        if mount.mountpoint.startswith(str(tmp_path)):
            _end(mount)


def _end(mount: Mount) -> None:
    """Unmounts a mount and ends its daemon, even a frozen one."""
    pid = 0
    try:
        pid = control_client.ask(mount, {"do": "pid"}, 1).pid
    except control_client.NoAnswer as silent:
        pid = silent.pid
    except UsageError:
        pass
    points.abort(mount)
    if pid:
        with suppress(ProcessLookupError):  # a daemon that is thawed meanwhile ends by itself
            os.kill(pid, signal.SIGKILL)
