"""udocker: PRoot and its like, for machines that allow users no namespaces. It isolates files only.

It runs the program in the image's directory itself (`--location`), not in a copy in its store.
`udocker install` puts its engines into UDOCKER_DIR.
"""

import os

from lazyfs.runtimes.bind_places import arrange
from lazyfs.runtimes.enclosed import check_utf8, executable_of, lines_of_environment, plain
from lazyfs.runtimes.launch import Launch
from lazyfs.runtimes.protocol import ProgramEnd, RuntimeExit, RuntimePlan, RuntimeProbe, Unfit
from lazyfs.runtimes.supervise import supervise
from lazyfs.runtimes.trial import try_out
from lazyfs.runtimes.watcher import children
from lazyfs.system.clean_start import callers_environment

_PROGRAM = "udocker"
_ENVIRONMENT = "--env-file="
_HANDED_ON = ("UDOCKER_DIR", "UDOCKER_DEFAULT_EXECUTION_MODE", "HOME")


class Udocker:
    """Runs programs with `udocker` 1.3 or newer, with an engine installed."""

    name = "udocker"

    def __init__(self, program: str | None = None) -> None:
        """`program`: the executable, if it is not on PATH."""
        self._program = program

    def probe(self) -> RuntimeProbe:
        return try_out(self, (_PROGRAM,), self._program)

    def plan(self, launch: Launch) -> RuntimePlan:
        """Returns the plan, which passes on the caller's choice of an execution mode. Raises Unfit for what
        udocker cannot do: another user, no network, SIF files, binds that have to be read-only but that the
        program could write to."""
        if launch.is_file:
            raise Unfit("udocker starts directories only")
        if launch.user is not None or not launch.network:
            raise Unfit("udocker starts programs as the caller, with the machine's network")
        for bind in launch.binds:
            if bind.read_only and os.access(bind.source, os.W_OK):
                raise Unfit(f"bind {bind.source}: udocker cannot keep it from being written to")
        check_utf8(launch, _PROGRAM)
        binds = [
            f"--volume={plain(bind.source, _PROGRAM, 'bind source')}:"
            f"{plain(place.path, _PROGRAM, 'bind target')}"
            for bind, place in arrange(launch.root, launch.binds, ()).binds
        ]
        options = (
            _PROGRAM,
            "--quiet",
            "run",
            "--nobanner",
            "--nometa",
            f"--location={plain(launch.root, _PROGRAM, 'image')}",
            _ENVIRONMENT,
            f"--workdir={launch.workdir}",
            "--volume=/tmp",
            *binds,
            "--entrypoint=",
            "lazyfs",
        )
        callers = callers_environment()
        return RuntimePlan(
            options,
            launch.command,
            (*options, *launch.command),
            paths={_ENVIRONMENT: lines_of_environment(launch, _PROGRAM)},
            environment={
                "PATH": "/usr/bin:/bin",
                **{name: callers[name] for name in _HANDED_ON if name in callers},
            },
            reachable=(
                "the network",
                "the machine's /tmp, processes, memory and sockets: udocker hides files only",
            ),
        )

    def start(self, plan: RuntimePlan) -> RuntimeExit:
        executable = executable_of((_PROGRAM,), self._program) or _PROGRAM
        return supervise(plan, executable, lambda _: None, lambda pid: children(pid) or [pid])

    def read_end(self, ended: RuntimeExit) -> ProgramEnd:
        """Returns the program's end. udocker leaves no evidence of a start, so its own failures (code 1)
        count as the program's."""
        return ProgramEnd(ended.code if ended.code >= 0 else 128 - ended.code, started=True)
