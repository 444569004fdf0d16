"""A published repository, and a runtime directory of the test's own; its mounts are taken away at the end."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.daemon import control_client
from lazyfs.system import mountpoint as points
from tests.support.images import image, live
from tests.support.repository import Published


@pytest.fixture
def published(tmp_path: Path) -> Published:
    found = Published(tmp_path / "published")
    files = {"f": b"1", "big": b"x" * 300_000}
    found.commit(live(found.objects, {"lib": {"a:1": image(found.objects, files)}}))
    return found


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Sets the directory of the control sockets; takes the test's mounts away at the end."""
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    yield tmp_path / "run"
    for mount in points.mounts():
        if mount.mountpoint.startswith(str(tmp_path)):
            _end(mount)


def _end(mount: points.Mount) -> None:
    """Takes a mount away and ends its daemon, frozen or not."""
    pid = 0
    try:
        pid = control_client.ask(mount, {"do": "pid"}, 1).pid
    except control_client.NoAnswer as silent:
        pid = silent.pid
    except UsageError:
        pass
    points.abort(mount)
    if pid:
        os.kill(pid, signal.SIGKILL)
