"""bubblewrap: the smallest runtime, unprivileged, one file to install.

Own user, pid, ipc, uts and mount namespaces; the network is the host's, as batch systems have it. The image
is read-only, /tmp is empty and writable, /proc and /dev are made new. Nothing else of the host is seen but
the binds and /etc/resolv.conf and /etc/hosts, without which no name can be looked up.
"""

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.bind_places import BindPlace, arrange
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
from lazyfs.runtimes.underlay import covers

_ARGUMENTS = "{arguments}"
"""Placeholder of the descriptor with bwrap's arguments."""
_ISOLATION = ("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent")
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
    tree = arrange(root, launch.binds, _OF_THE_HOST)
    made = covers(root, tree.places)
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
    for place in tree.places:
        yield from _parents(place)
    yield from ("--proc", tree.proc.path, "--dev", tree.dev.path, "--tmpfs", tree.tmp.path)
    for bind, place in tree.binds:
        yield from (_bind_option(bind), bind.source, place.path)
    for cover in reversed(made):
        yield from ("--remount-ro", cover.path)


def _parents(place: BindPlace) -> Iterator[str]:
    """Directories on the way to a made mount point, open to everybody (bwrap's own would be mode 0700)."""
    if place.made_in is not None:
        names = place.path.removeprefix(place.made_in).strip("/").split("/")[:-1]
        for depth in range(1, len(names) + 1):
            yield from ("--perms", "0755", "--dir", os.path.join(place.made_in, *names[:depth]))


def _bind_option(bind: Bind) -> str:
    """Devices and folders of devices can be opened as such; everything else is bound nodev."""
    source = os.path.realpath(bind.source)
    mode = os.stat(source).st_mode
    device = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
    if device and bind.read_only:
        raise UsageError(
            f"bind {bind.source}: a device cannot be bound read-only; leave :ro out, or leave out the bind"
        )
    if bind.read_only:
        return "--ro-bind"
    return "--dev-bind" if device or source == "/dev" or source.startswith("/dev/") else "--bind"


def _environment(launch: Launch) -> Iterator[str]:
    yield "--clearenv"
    for name, value in launch.environment.items():
        yield from ("--setenv", name, value)
    yield from ("--chdir", launch.workdir)
