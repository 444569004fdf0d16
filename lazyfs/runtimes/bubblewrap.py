"""bubblewrap: the smallest runtime, unprivileged, one file to install.

A program has its own user, pid, ipc, uts and mount namespaces. The network is the host's, as in batch
systems, unless the caller wants none. The image is read-only, /tmp is empty and writable, /proc and /dev are
new. Of the host's files the program sees only the binds, and /etc/resolv.conf and /etc/hosts, which it needs
to look up names. Root's programs get no capability.
"""

import json
import os
import stat
import subprocess
from functools import cache

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.bubblewrap_arguments import describe
from lazyfs.runtimes.launch import Launch
from lazyfs.runtimes.probe_memory import remembered
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
from lazyfs.system.executables import find_executable
from lazyfs.system.syscalls import interfaces, isolation_filter

_ARGUMENTS = "{arguments}"
"""Stands, in the command line, for the number of the descriptor from which bwrap reads its arguments."""
_FILTER = "{filter}"
"""Stands, in the command line, for the number of the descriptor from which bwrap reads a seccomp filter,
which refuses some system calls to the program."""
_ISOLATION = ("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent")
_TRIAL = ("--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--", "true")
_TRIAL_SECONDS = 20
_DISABLE_USERNS, _BIND_DESCRIPTOR = "--disable-userns", "--ro-bind-fd"
"""Options that only newer versions of bwrap have: the first from 0.8 on, the second from 0.10 on."""
_MISSING = "bwrap is not on PATH; install the package bubblewrap"
_SECCOMP = "/proc/sys/kernel/seccomp/actions_avail"


class Bubblewrap:
    """Runs programs with `bwrap` 0.5 or newer, the first with --perms."""

    name = "bubblewrap"

    def __init__(self, program: str | None = None) -> None:
        """`program`: the executable, if it is not on PATH."""
        self._program = program
        self._abilities: frozenset[str] | None = None

    def probe(self) -> RuntimeProbe:
        """Tries bwrap: starts `true` in all the namespaces that a program gets, because many systems forbid
        some of them. Returns the result, which may be remembered from an earlier try."""
        executable = self._executable()
        if executable is None:
            return RuntimeProbe(self.name, False, _MISSING)
        found = remembered(self.name, executable, lambda: _try_out(self.name, executable))
        if found.usable:
            self._abilities = found.abilities
        return found

    def _executable(self) -> str | None:
        return self._program or find_executable("bwrap")

    def _able(self) -> frozenset[str]:
        """Returns those options of newer versions that this bwrap has: as the probe found them, or, if no
        probe was made, as bwrap says now."""
        if self._abilities is None:
            self._abilities = _abilities(self._executable() or "bwrap")
        return self._abilities

    def plan(self, launch: Launch) -> RuntimePlan:
        """Returns the plan of a start. bwrap reads all arguments but the command itself from a descriptor."""
        if launch.is_file:
            raise Unfit("bubblewrap starts directories only")
        able = self._able()
        isolation = _isolation(launch.as_root, able)
        if not launch.network:
            isolation = (*isolation, "--unshare-net")
        made = describe(
            launch, isolation, by_descriptor=launch.pinned is not None and _BIND_DESCRIPTOR in able
        )
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
            reachable=tuple(_reachable(launch, able)),
        )

    def start(self, plan: RuntimePlan) -> RuntimeExit:
        """Runs the plan to its end. Signals go to bwrap's grandchild: the program, whose parent is the
        namespace's init."""
        executable = self._executable()
        if executable is None:
            raise UsageError(_MISSING)
        scoped = _can_scope(executable)

        def detach(_: int) -> None:
            leave_session_keyring()
            if scoped:
                leave_abstract_sockets()

        return supervise(plan, executable, detach, _programs)

    def read_end(self, ended: RuntimeExit) -> ProgramEnd:
        """Returns the program's end. It was started if the last line that bwrap wrote is {"exit-code": N}:
        bwrap writes this only after it has executed the program."""
        if not any("exit-code" in json.loads(line) for line in ended.status.decode().splitlines()):
            return ProgramEnd(RUNTIME_FAILED, started=False)
        return ProgramEnd(ended.code if ended.code >= 0 else 128 - ended.code, started=True)


def _try_out(name: str, executable: str) -> RuntimeProbe:
    able = _abilities(executable)
    version = subprocess.run([executable, "--version"], capture_output=True, text=True, check=False)
    trial = [executable, *_isolation(os.geteuid() == 0, able), *_TRIAL]
    try:
        done = subprocess.run(
            trial, capture_output=True, text=True, errors="replace", timeout=_TRIAL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return RuntimeProbe(name, False, f"a trial of bwrap did not end in {_TRIAL_SECONDS} s")
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        return RuntimeProbe(name, False, f"a trial failed ({said[0]}); are user namespaces allowed?")
    return RuntimeProbe(name, True, version.stdout.strip(), able)


def _isolation(as_root: bool, able: frozenset[str]) -> tuple[str, ...]:
    """Returns the arguments that isolate a program. A program started by root would keep every capability,
    and could regain dropped ones in a nested user namespace. So its capabilities are dropped, and nested user
    namespaces are forbidden if this bwrap has the option for that. `able`: the newer options that it has."""
    if not as_root:
        return _ISOLATION
    nested = (_DISABLE_USERNS,) if _DISABLE_USERNS in able else ()
    return (*_ISOLATION, "--cap-drop", "ALL", *nested)


@cache
def _abilities(executable: str) -> frozenset[str]:
    """Returns the options of newer versions that this bwrap has."""
    said = subprocess.run([executable, "--help"], capture_output=True, text=True, check=False)
    known = said.stdout + said.stderr
    return frozenset(option for option in (_DISABLE_USERNS, _BIND_DESCRIPTOR) if option in known)


def _can_filter() -> bool:
    return bool(interfaces()) and os.path.exists(_SECCOMP)


def _can_scope(executable: str) -> bool:
    """Returns True if Landlock can keep the program from abstract sockets. False for a set-user-id bwrap (for
    systems that allow users no namespaces): it would lose its privileges under Landlock."""
    return can_scope_sockets() and not os.stat(executable).st_mode & stat.S_ISUID


def _reachable(launch: Launch, able: frozenset[str]) -> list[str]:
    """Returns, in words for people, the parts of the machine that the program can reach without a bind."""
    found = []
    if launch.network:
        found.append("the network")
        if not _can_scope(find_executable("bwrap") or os.devnull):
            found.append(
                "abstract sockets (Linux 6.12 with Landlock would keep them out; so does --network none)"
            )
    if not _can_filter():
        found.append("keys of the same user whose numbers it guesses (no seccomp here)")
    if launch.as_root and _DISABLE_USERNS not in able:
        found.append("user namespaces, with all capabilities in them (bwrap 0.8 would forbid them)")
    return found


def _programs(runtime: int) -> list[int]:
    return [program for init in children(runtime) for program in children(init)]
