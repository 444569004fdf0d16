"""The container runtimes on the test machine, and `lazyfs run` as root and as a user."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_TOP: Final = Path(__file__).parents[2]
NOBODY: Final = 65534
RUNTIMES: Final = ("bubblewrap", "apptainer", "charliecloud", "crun", "runc", "podman", "systemd-nspawn")
"""The runtimes that start programs here."""
ROOTS_ONLY: Final = frozenset({"systemd-nspawn"})
PODMAN_CONF: Final = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
"""Settings for podman without systemd, on a machine whose limits are below podman's default ulimits."""
_PYTHON: Final = "/usr/bin/python3.11"
"""A Python that every user can execute. The tests' own may lie in a home."""


def lazyfs_of(user: int | None) -> list[str]:
    """Returns the command `lazyfs` for root (None), or for a user ID without login, home or
    XDG_RUNTIME_DIR."""
    if user is None:
        return [sys.executable, "-m", "lazyfs"]
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    path = os.pathsep.join((str(_TOP), str(_TOP / "cache"), packages))
    identity = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    settings = [f"PYTHONPATH={path}", "PYTHONDONTWRITEBYTECODE=1", "HOME=/nonexistent"]
    return [*identity, "env", "-u", "XDG_RUNTIME_DIR", *settings, _PYTHON, "-m", "lazyfs"]


def run(
    arguments: Sequence[str | Path],
    *,
    user: int | None = None,
    environment: Mapping[str, str] | None = None,
    given: str = "",
) -> subprocess.CompletedProcess[str]:
    """Runs `lazyfs run` to its end, with apptainer on PATH and `given` as input."""
    command = [*lazyfs_of(user), "run", *map(str, arguments)]
    variables = {**os.environ, "PATH": search_path(), **(environment or {})}
    return subprocess.run(
        command, input=given, env=variables, check=False, capture_output=True, text=True, timeout=100, cwd="/"
    )


def search_path() -> str:
    """Returns a PATH on which all runtimes are."""
    return f"{os.environ['PATH']}:{apptainer_prefix() / 'usr/bin'}"


def apptainer_prefix() -> Path:
    """Installs apptainer with tools/get-apptainer, once per machine; returns its prefix."""
    prefix = Path("/tmp/lazyfs-apptainer")
    subprocess.run([_TOP / "tools/get-apptainer", prefix], check=True, stdout=sys.stderr)
    return prefix
