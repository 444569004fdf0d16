"""The container runtimes on the test machine, and `lazyfs run` as root and as a user."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from lazyfs.system.control_groups import enter_group

_TOP: Final = Path(__file__).parents[2]
NOBODY: Final = 65534
RUNTIMES: Final = (
    "bubblewrap",
    "apptainer",
    "charliecloud",
    "crun",
    "runc",
    "podman",
    "systemd-nspawn",
    "docker",
)
"""Runtimes that can start programs on the test machine."""
ROOTS_ONLY: Final = {
    "systemd-nspawn": "only root can start it",
    "docker": "only root and members of its group may",
}
"""Runtime that only root can use -> the reason shown to other users."""
ALL_WAYS: Final = [
    (runtime, user)
    for runtime in RUNTIMES
    for user in (None, NOBODY)
    if user is None or runtime not in ROOTS_ONLY
]
"""Each runtime as root and, where it can be, as a user."""
WAYS: Final = (
    ALL_WAYS
    if os.environ.get("LAZYFS_LONG") == "1"
    else [
        (runtime, None if number % 2 or runtime in ROOTS_ONLY else NOBODY)
        for number, runtime in enumerate(RUNTIMES)
    ]
)
"""ALL_WAYS in the long tier. In the ordinary tier each runtime once, as root or as a user by turns."""
NOT_HERE: Final = ("udocker", "shifter")
"""Runtimes that the test machine lacks. Only their command lines are tested."""
PODMAN_CONF: Final = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
"""Settings for podman on a machine without systemd, whose limits are below podman's default ulimits."""
_PYTHON: Final = "/usr/bin/python3.11"
"""A Python that every user can execute. The tests' own may be in a home directory."""


def lazyfs_of(user: int | None) -> list[str]:
    """Returns the command `lazyfs`, run as root if `user` is None, otherwise under this user ID, which has no
    login, home or XDG_RUNTIME_DIR."""
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
    groups: Sequence[Path] = (),
) -> subprocess.CompletedProcess[str]:
    """Runs `lazyfs run` to its end in the control groups `groups`, with apptainer on PATH and `given` on
    stdin."""
    command = [*lazyfs_of(user), "run", *map(str, arguments)]
    variables = {**os.environ, "PATH": search_path(), **(environment or {})}

    def enter() -> None:
        for group in groups:
            enter_group(str(group))

    return subprocess.run(
        command,
        input=given,
        env=variables,
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
        cwd="/",
        preexec_fn=enter if groups else None,
    )


def search_path() -> str:
    """Returns a PATH that has all runtimes."""
    return f"{os.environ['PATH']}:{apptainer_prefix() / 'usr/bin'}"


def apptainer_prefix() -> Path:
    """Installs apptainer with tools/get-apptainer, once per machine; returns its prefix."""
    prefix = Path("/tmp/lazyfs-apptainer")
    subprocess.run([_TOP / "tools/get-apptainer", prefix], check=True, stdout=sys.stderr)
    return prefix
