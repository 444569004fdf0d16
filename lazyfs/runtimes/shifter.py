"""shifter, of NERSC and CSCS: a set-user-id program, so no enclosure is possible. It isolates files only.

It takes a directory as an image only if the site has set `allowLocalChroot=1` in udiRoot.conf.
"""

from lazyfs.runtimes.bind_places import arrange
from lazyfs.runtimes.enclosed import check_utf8, executable_of, lines_of_environment, plain
from lazyfs.runtimes.launch import Launch
from lazyfs.runtimes.protocol import ProgramEnd, RuntimeExit, RuntimePlan, RuntimeProbe, Unfit
from lazyfs.runtimes.supervise import supervise
from lazyfs.runtimes.trial import try_out

_PROGRAM = "shifter"
_ENVIRONMENT = "--env-file="


class Shifter:
    """Runs programs with `shifter` 18.03 or newer."""

    name = "shifter"

    def __init__(self, program: str | None = None) -> None:
        """`program`: the executable, if it is not on PATH."""
        self._program = program

    def probe(self) -> RuntimeProbe:
        return try_out(self, (_PROGRAM,), self._program)

    def plan(self, launch: Launch) -> RuntimePlan:
        """Returns the plan. Raises Unfit for what shifter cannot do: another user, no network, SIF files,
        binds whose target the image lacks."""
        if launch.is_file:
            raise Unfit("shifter starts directories only")
        if launch.user is not None or not launch.network:
            raise Unfit("shifter starts programs as the caller, with the machine's network")
        check_utf8(launch, _PROGRAM)
        bound = arrange(launch.root, launch.binds, ()).binds
        for bind, place in bound:
            if place.made_in is not None:
                raise Unfit(f"bind target {bind.target}: shifter needs it in the image")
        binds = [
            f"--volume={plain(bind.source, _PROGRAM, 'bind source')}:"
            f"{plain(place.path, _PROGRAM, 'bind target')}{':ro' * bind.read_only}"
            for bind, place in bound
        ]
        options = (
            _PROGRAM,
            f"--image=local:{plain(launch.root, _PROGRAM, 'image')}",
            "--clearenv",
            _ENVIRONMENT,
            f"--workdir={launch.workdir}",
            *binds,
            "--",
        )
        return RuntimePlan(
            options,
            launch.command,
            (*options, *launch.command),
            paths={_ENVIRONMENT: lines_of_environment(launch, _PROGRAM)},
            reachable=(
                "the network",
                "processes, memory and sockets: shifter hides files only",
            ),
        )

    def start(self, plan: RuntimePlan) -> RuntimeExit:
        executable = executable_of((_PROGRAM,), self._program) or _PROGRAM
        return supervise(plan, executable, lambda _: None, lambda pid: [pid])

    def read_end(self, ended: RuntimeExit) -> ProgramEnd:
        """Returns the program's end. shifter leaves no evidence that it has become the program, so its own
        failures (code 1) count as the program's."""
        return ProgramEnd(ended.code if ended.code >= 0 else 128 - ended.code, started=True)
