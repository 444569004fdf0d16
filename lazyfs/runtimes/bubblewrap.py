"""bubblewrap: the smallest runtime, unprivileged, one file to install.

A program has its own user, pid, ipc, uts and mount namespaces. The network is the host's, as in batch
systems, unless the caller wants none. The image is read-only, /tmp is empty and writable, /proc and /dev are
new. Of the host's files the program sees only the binds, and /etc/resolv.conf and /etc/hosts, which it needs
to look up names. Root's programs get no capability.
"""

import json
import os
import re
import shutil
import stat
import subprocess
from functools import cache

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.bubblewrap_arguments import describe
from lazyfs.runtimes.launch import Launch
from lazyfs.runtimes.protocol import (
    RUNTIME_FAILED,
    ProgramEnd,
    RuntimeExit,
    RuntimePlan,
    RuntimeProbe,
    Unfit,
    nul_separated,
)
from lazyfs.runtimes.supervise import supervise
from lazyfs.runtimes.watcher import children
from lazyfs.system.detachment import can_scope_sockets, leave_abstract_sockets, leave_session_keyring
from lazyfs.system.syscalls import interfaces, isolation_filter

_ARGUMENTS = "{arguments}"
"""Placeholder of the descriptor with bwrap's arguments."""
_FILTER = "{filter}"
"""Placeholder of the descriptor with the system call filter."""
_ISOLATION = ("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent")
_TRIAL = ("--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--", "true")
_TRIAL_SECONDS = 20
_MISSING = "bwrap is not on PATH; install the package bubblewrap"
_SECCOMP = "/proc/sys/kernel/seccomp/actions_avail"


class Bubblewrap:
    """`bwrap`, 0.5 or newer (for --perms)."""

    name = "bubblewrap"

    def __init__(self, program: str | None = None) -> None:
        """`program`: the executable, if it is not on PATH."""
        self._program = program

    def probe(self) -> RuntimeProbe:
        """Starts `true` in the namespaces of a program, because many systems forbid some of them."""
        executable = self._program or shutil.which("bwrap")
        if executable is None:
            return RuntimeProbe(self.name, False, _MISSING)
        trial = [executable, *_isolation(os.geteuid() == 0), *_TRIAL]
        try:
            done = subprocess.run(
                trial, capture_output=True, text=True, errors="replace", timeout=_TRIAL_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return RuntimeProbe(self.name, False, f"a trial of bwrap did not end in {_TRIAL_SECONDS} s")
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            return RuntimeProbe(self.name, False, f"a trial failed ({said[0]}); are user namespaces allowed?")
        return RuntimeProbe(self.name, True, _version())

    def plan(self, launch: Launch) -> RuntimePlan:
        """Returns the plan of a start. All arguments but the command itself are passed through a
        descriptor."""
        if launch.is_file:
            raise Unfit("bubblewrap starts directories only")
        isolation = _isolation(launch.as_root)
        if not launch.network:
            isolation = (*isolation, "--unshare-net")
        made = describe(launch, isolation, by_descriptor=launch.pinned is not None and _takes_descriptors())
        files = {_ARGUMENTS: nul_separated(made.arguments)}
        options = ["bwrap", "--json-status-fd", RuntimePlan.STATUS]
        if _can_filter():
            files[_FILTER] = isolation_filter(interfaces())
            options += ["--seccomp", _FILTER]
        return RuntimePlan(
            (*options, "--args", _ARGUMENTS, "--"),
            launch.command,
            ("bwrap", *made.shown, "--", *launch.command),
            files,
            launch.user,
            held=made.held,
            completed=made.image,
            reachable=tuple(_reachable(launch)),
        )

    def start(self, plan: RuntimePlan) -> RuntimeExit:
        """Runs the plan to its end. Sends signals to bwrap's grandchild, the program below the namespace's
        init."""
        executable = self._program or shutil.which("bwrap")
        if executable is None:
            raise UsageError(_MISSING)
        scoped = _can_scope(executable)

        def detach(_: int) -> None:
            leave_session_keyring()
            if scoped:
                leave_abstract_sockets()

        return supervise(plan, executable, detach, _programs)

    def read_end(self, ended: RuntimeExit) -> ProgramEnd:
        """Returns the program's end: bwrap writes {"exit-code": N}, as its last line, only if the program was
        executed."""
        if not any("exit-code" in json.loads(line) for line in ended.status.decode().splitlines()):
            return ProgramEnd(RUNTIME_FAILED, started=False)
        return ProgramEnd(ended.code if ended.code >= 0 else 128 - ended.code, started=True)


def _isolation(as_root: bool) -> tuple[str, ...]:
    """Returns the arguments that isolate a program. A program of root's would keep every capability, and
    could regain them in a user namespace of its own; so both are forbidden to it."""
    if not as_root:
        return _ISOLATION
    numbers = [int(number) for number in re.findall(r"\d+", _version())]
    nested = ("--disable-userns",) if numbers >= [0, 8] else ()
    return (*_ISOLATION, "--cap-drop", "ALL", *nested)


@cache
def _version() -> str:
    return subprocess.run(["bwrap", "--version"], capture_output=True, text=True, check=True).stdout.strip()


@cache
def _takes_descriptors() -> bool:
    """Returns True if bwrap can bind an open descriptor (0.10, and earlier versions that have the option)."""
    said = subprocess.run(["bwrap", "--help"], capture_output=True, text=True, check=False)
    return "--ro-bind-fd" in said.stdout + said.stderr


def _can_filter() -> bool:
    return bool(interfaces()) and os.path.exists(_SECCOMP)


def _can_scope(executable: str) -> bool:
    """Returns True if Landlock can keep the program from abstract sockets. A set-user-id bwrap, for systems
    that allow users no namespaces, would lose its privileges under Landlock."""
    return can_scope_sockets() and not os.stat(executable).st_mode & stat.S_ISUID


def _reachable(launch: Launch) -> list[str]:
    """Returns the names of the parts of the machine that the program can reach without a bind."""
    found = []
    if launch.network:
        found.append("the network")
        if not _can_scope(shutil.which("bwrap") or os.devnull):
            found.append(
                "abstract sockets (Linux 6.12 with Landlock would keep them out; so does --network none)"
            )
    if not _can_filter():
        found.append("keys of the same user whose numbers it guesses (no seccomp here)")
    if launch.as_root and "--disable-userns" not in _isolation(True):
        found.append("user namespaces, with all capabilities in them (bwrap 0.8 would forbid them)")
    return found


def _programs(runtime: int) -> list[int]:
    return [program for init in children(runtime) for program in children(init)]
