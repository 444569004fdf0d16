"""bubblewrap: the smallest runtime, unprivileged, one file to install.

Own user, pid, ipc, uts and mount namespaces; the network is the host's, as batch systems have it. The image
is read-only, /tmp is empty and writable, /proc and /dev are made new. Nothing else of the host is seen but
the binds and /etc/resolv.conf and /etc/hosts, without which no name can be looked up.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.launch import Bind, Launch
from lazyfs.runtimes.protocol import (
    RUNTIME_FAILED,
    ProgramEnd,
    RuntimeExit,
    RuntimePlan,
    RuntimeProbe,
    nul_separated,
)
from lazyfs.runtimes.supervise import children, supervise
from lazyfs.runtimes.underlay import BindPlace, covers, mount_point

_ARGUMENTS = "{arguments}"
"""Placeholder of the descriptor with bwrap's arguments."""
_ISOLATION = ("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent")
_OWN = (("--proc", "/proc"), ("--dev", "/dev"), ("--tmpfs", "/tmp"))  # noqa: S108
_OF_THE_HOST = (Bind("/etc/resolv.conf", "/etc/resolv.conf", True), Bind("/etc/hosts", "/etc/hosts", True))


class Bubblewrap:
    """`bwrap`, 0.5 or newer (for --perms)."""

    name = "bubblewrap"

    def probe(self) -> RuntimeProbe:
        """Starts `true` in the same namespaces: distributions and batch systems forbid them in many ways."""
        if shutil.which("bwrap") is None:
            return RuntimeProbe(self.name, False, "bwrap is not on PATH; install the package bubblewrap")
        trial = [
            "bwrap",
            *_ISOLATION,
            "--ro-bind",
            "/",
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "--",
            "true",
        ]
        try:
            done = subprocess.run(
                trial, capture_output=True, text=True, errors="replace", timeout=20, check=False
            )
        except subprocess.TimeoutExpired:
            return RuntimeProbe(self.name, False, "a trial of bwrap did not end in 20 s")
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            return RuntimeProbe(self.name, False, f"a trial failed ({said[0]}); are user namespaces allowed?")
        version = subprocess.run(["bwrap", "--version"], capture_output=True, text=True, check=True).stdout
        return RuntimeProbe(self.name, True, version.strip())

    def plan(self, launch: Launch) -> RuntimePlan:
        """Everything but the command itself goes through a descriptor."""
        arguments = (*_ISOLATION, *_filesystem(launch), *_environment(launch))
        options = ("bwrap", "--json-status-fd", RuntimePlan.STATUS, "--args", _ARGUMENTS, "--")
        shown = ("bwrap", *arguments, "--", *launch.command)
        return RuntimePlan(options, launch.command, shown, {_ARGUMENTS: nul_separated(arguments)})

    def start(self, plan: RuntimePlan) -> RuntimeExit:
        """Signals go to the grandchild of bwrap: the program below the namespace's init."""
        executable = shutil.which("bwrap")
        if executable is None:
            raise UsageError("bwrap is not on PATH; install the package bubblewrap")
        return supervise(plan, executable, lambda pid: [p for init in children(pid) for p in children(init)])

    def read_end(self, ended: RuntimeExit) -> ProgramEnd:
        """bwrap writes {"exit-code": N} last, and only if the program was executed."""
        if not any("exit-code" in json.loads(line) for line in ended.status.decode().splitlines()):
            return ProgramEnd(RUNTIME_FAILED, started=False)
        return ProgramEnd(ended.code if ended.code >= 0 else 128 - ended.code, started=True)


def _filesystem(launch: Launch) -> Iterator[str]:
    """Arguments that build the tree, in the order bwrap carries them out."""
    root = launch.root
    own = {target: mount_point(root, target, directory=True) for _, target in _OWN}
    binds = sorted((*_of_the_host(launch), *launch.binds), key=lambda bind: bind.target.count("/"))
    places = _places(root, binds)
    made = covers(root, [*own.values(), *places])

    root_is_covered = bool(made) and made[0].path == "/"
    if not root_is_covered:
        yield from ("--ro-bind", root, "/")
    for cover in made:
        if cover.path != "/":  # bwrap's own root is an empty tmpfs already
            yield from ("--perms", f"{cover.mode:04o}", "--tmpfs", cover.path)
        for name in cover.shown:
            inside = os.path.join(cover.path, name)
            yield from ("--ro-bind", root.rstrip("/") + inside, inside)
        for name, target in cover.links:
            yield from ("--symlink", target, os.path.join(cover.path, name))
    for point in (*own.values(), *places):
        yield from _parents(point)
    for option, target in _OWN:
        yield from (option, own[target].path)
    for bind, place in zip(binds, places, strict=True):
        yield from ("--ro-bind" if bind.read_only else "--bind", bind.source, place.path)
    for cover in reversed(made):
        yield from ("--remount-ro", cover.path)


def _parents(point: BindPlace) -> Iterator[str]:
    """Directories on the way to a made mount point, open to everybody (bwrap's own would be mode 0700)."""
    if point.made_in is not None:
        names = point.path.removeprefix(point.made_in).strip("/").split("/")[:-1]
        for depth in range(1, len(names) + 1):
            yield from ("--perms", "0755", "--dir", os.path.join(point.made_in, *names[:depth]))


def _of_the_host(launch: Launch) -> Iterator[Bind]:
    """What name lookups need, unless the caller binds it or the image has something else of that name."""
    for bind in _OF_THE_HOST:
        if any(b.target == bind.target or _below(bind.target, b.target) for b in launch.binds):
            continue
        try:
            mount_point(launch.root, bind.target, directory=False)
        except UsageError:
            continue
        if os.path.isfile(bind.source):
            yield bind


def _places(root: str, binds: list[Bind]) -> list[BindPlace]:
    """Where each bind goes; below an earlier bind, /tmp or /dev the image need not have it."""
    places: list[BindPlace] = []
    for bind in binds:
        outer = next((b for b in reversed(binds[: len(places)]) if _below(bind.target, b.target)), None)
        if outer is not None:
            there = outer.source + bind.target.removeprefix(outer.target)
            if not os.path.exists(there):  # bwrap would make it on the host
                raise UsageError(
                    f"bind target {bind.target}: {there} does not exist on this machine; make it first"
                )
            places.append(BindPlace(bind.target, None))
        elif _below(bind.target, "/tmp") or _below(bind.target, "/dev"):  # noqa: S108
            places.append(BindPlace(bind.target, None))
        else:
            places.append(mount_point(root, bind.target, directory=os.path.isdir(bind.source)))
    return places


def _below(path: str, directory: str) -> bool:
    return path.startswith(directory.rstrip("/") + "/")


def _environment(launch: Launch) -> Iterator[str]:
    yield "--clearenv"
    for name, value in launch.environment.items():
        yield from ("--setenv", name, value)
    yield from ("--chdir", launch.workdir)
