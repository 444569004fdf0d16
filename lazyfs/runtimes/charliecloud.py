"""Charliecloud: `ch-run`, for high-performance computing. It makes only a user and a mount namespace.

So it is started in namespaces that lazyfs makes (`enclosure`). They isolate what ch-run does not: processes,
message queues, shared memory, devices. Binds are made read-only there too.
"""

import os

from lazyfs.runtimes import enclosed
from lazyfs.runtimes.enclosure import AddedPath
from lazyfs.runtimes.launch import Launch
from lazyfs.runtimes.protocol import ProgramEnd, RuntimeExit, RuntimePlan, RuntimeProbe, Unfit
from lazyfs.runtimes.trial import try_out

_PROGRAM = "ch-run"
_NEEDED = (AddedPath("/etc", True), AddedPath("/sys", True))


class Charliecloud:
    """Runs programs with `ch-run` 0.26 or newer, the first with --unset-env."""

    name = "charliecloud"

    def __init__(self, program: str | None = None) -> None:
        """`program`: the executable, if it is not on PATH."""
        self._program = program

    def probe(self) -> RuntimeProbe:
        return try_out(self, (_PROGRAM,), self._program)

    def plan(self, launch: Launch) -> RuntimePlan:
        """Returns the plan. Raises Unfit for a launch that ch-run cannot make: with a variable of several
        lines, or of an image whose /etc/hosts or /etc/resolv.conf is a link, which ch-run would follow out of
        the image."""
        for path in ("/etc/hosts", "/etc/resolv.conf"):
            if os.path.islink(launch.root + path):
                raise Unfit(f"image {launch.root}: its {path} is a link, which {_PROGRAM} follows outside")
        surroundings = enclosed.surround(launch, _NEEDED)
        binds = tuple(
            f"--bind={enclosed.source_and_target(inner, _PROGRAM)}" for inner in surroundings.mounts
        )
        options = (
            _PROGRAM,
            "--no-passwd",
            "--private-tmp",
            "--env-no-expand",
            "--unset-env=*",
            f"--set-env={launch.scratch}/environment",
            f"--cd={launch.workdir}",
            *binds,
            launch.root,
            "--",
        )
        enclosure = surroundings.enclosure(
            launch,
            {"environment": enclosed.lines_of_environment(launch, _PROGRAM, _quoted)},
            environment={"USER": "user", "HOME": "/", "PATH": "/usr/bin:/bin"},
            own_names=(_PROGRAM,),
            covered=("/sys",),
            own_devices=True,
        )
        return enclosed.plan_of(launch, options, enclosure, passes_bytes=True)

    def start(self, plan: RuntimePlan) -> RuntimeExit:
        return enclosed.start_with(plan, (_PROGRAM,), self._program)

    def read_end(self, ended: RuntimeExit) -> ProgramEnd:
        """Returns the program's end. ch-run executes the program in its own process, so the program was
        started if that process no longer has ch-run's name."""
        return enclosed.program_end(ended, self.name, lambda report: report.name != _PROGRAM)


def _quoted(value: str) -> str:
    """Returns a value as --set-env reads it: ch-run removes one pair of single quotes around a value."""
    return f"'{value}'" if len(value) > 1 and value[0] == value[-1] == "'" else value
