"""A Debian 12 in which a real systemd runs, with the Debian package of lazyfs: booted by systemd-nspawn."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lazyfs.system.control_groups import group_below_own, remove_group
from tests.support.debian import root_filesystem
from tests.support.until import until

_OF_THIS_MACHINE = (
    "/etc/apt/sources.list.d",
    "/etc/apt/apt.conf.d",
    "/etc/ssl/certs",
    "/usr/local/share/ca-certificates",
)
"""Files by which apt reaches this machine's mirror."""
_NSPAWN = ("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--console=pipe")
PACKAGE = "/srv/lazyfs.deb"


@contextmanager
def installed_root(directory: Path, package: Path) -> Iterator[Path]:
    """Yields a root directory with systemd and the package, which lies in it as PACKAGE too."""
    root, upper, work = (directory / name for name in ("root", "upper", "work"))
    for made in (root, upper, work):
        made.mkdir(parents=True)
    for path in map(Path, _OF_THIS_MACHINE):
        if path.exists():
            shutil.copytree(path, f"{upper}{path}")
    (upper / "srv").mkdir()
    shutil.copy(package, f"{upper}{PACKAGE}")
    layers = f"lowerdir={root_filesystem()},upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", root], check=True)
    try:
        install = "apt-get -qq update && apt-get -y -qq install --no-install-recommends "
        install += f"systemd-sysv dbus {PACKAGE}"
        with _own_group() as group:
            command = [
                *_NSPAWN,
                "-D",
                str(root),
                "--resolv-conf=copy-host",
                "--setenv=DEBIAN_FRONTEND=noninteractive",
            ]
            subprocess.run(
                [*_in(group), *command, "sh", "-c", install], check=True, stdout=subprocess.DEVNULL
            )
        yield root
    finally:
        subprocess.run(["umount", root], check=True)


class BootedMachine:
    """A machine whose systemd runs. Other than its files and processes, everything is this machine's."""

    def __init__(self, leader: int) -> None:
        """`leader`: the machine's process 1, by its number on this machine."""
        self._leader = leader

    def inside(self, *command: str | Path) -> list[str]:
        """Returns the command line that runs a command in the machine, outside of its systemd's groups."""
        return ["nsenter", "-t", str(self._leader), "-m", "-u", "-i", "-p", "--", *map(str, command)]

    def run(
        self, *command: str | Path, check: bool = True, **options: Any
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a command in the machine."""
        return subprocess.run(
            self.inside(*command), check=check, capture_output=True, text=True, timeout=300, **options
        )

    def shown(self, unit: str, name: str) -> str:
        """Returns a property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).stdout.strip()


@contextmanager
def booted(root: Path, binds: Sequence[str]) -> Iterator[BootedMachine]:
    """Boots the root directory for the block. `binds`: options of systemd-nspawn that bind files of this
    machine."""
    with _own_group() as group:
        command = [*_in(group), *_NSPAWN, "-D", str(root), "--boot", "--bind=/dev/fuse", *binds]
        pipe = subprocess.DEVNULL
        with subprocess.Popen(command, stdin=pipe, stdout=pipe) as nspawn:
            try:
                children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children")
                until(lambda: bool(children.read_text().split()))
                machine = BootedMachine(int(children.read_text().split()[0]))
                until(lambda: _is_up(machine), 60)
                yield machine
            finally:
                nspawn.terminate()
                with suppress(subprocess.TimeoutExpired):
                    nspawn.wait(30)
                nspawn.kill()


def _is_up(machine: BootedMachine) -> bool:
    told = machine.run("systemctl", "is-system-running", check=False).stdout
    return told in ("running\n", "degraded\n")


def _in(group: str) -> list[str]:
    return ["sh", "-c", 'echo 0 >"$0/cgroup.procs"; exec "$@"', group]


@contextmanager
def _own_group() -> Iterator[str]:
    """Yields a group in the hierarchy of systemd, which makes groups of its own below it."""
    name = f"lazyfs-machine-{os.getpid()}"
    group = group_below_own(name)
    assert group is not None
    os.mkdir(group)
    try:
        yield group
    finally:
        for hierarchy in {group, group.replace("/systemd/", "/unified/", 1)}:
            until(lambda: _removed(hierarchy))  # noqa: B023 - called at once


def _removed(group: str) -> bool:
    remove_group(group)
    return not os.path.exists(group)
