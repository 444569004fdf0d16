"""systemd-nspawn: for root, on machines that have systemd's containers and nothing else."""

import os
from collections.abc import Iterator

from lazyfs.runtimes import enclosed, path_in_image
from lazyfs.runtimes.enclosure import NOTIFY, AddedPath
from lazyfs.runtimes.launch import Launch
from lazyfs.runtimes.protocol import ProgramEnd, RuntimeExit, RuntimePlan, RuntimeProbe, Unfit
from lazyfs.runtimes.trial import try_out

_PROGRAM = "systemd-nspawn"
_STATE = "/run"
"""The directory in which nspawn leaves files, and in which it looks for a container's settings."""
_OWN_NAMES = (_PROGRAM, "(sd-stubinit)")
_SHELL = "/bin/sh"
_WRAPPER = 'exec 3>&2 2>/dev/null; (exec 2>&3 3>&-; exec "$@"); exit $?'
"""A shell script that exits with 128+N if signal N has ended the program: nspawn's init would exit with 255
for every signal. The shell's own message about the signal is discarded."""
_NEEDED = (
    AddedPath("/usr", True),
    AddedPath("/sys", True),
    AddedPath("/run", True),
    AddedPath("/etc/os-release", False),
)


class SystemdNspawn:
    """Runs programs with `systemd-nspawn` 250 or newer."""

    name = "systemd-nspawn"

    def __init__(self, program: str | None = None) -> None:
        """`program`: the executable, if it is not on PATH."""
        self._program = program

    def probe(self) -> RuntimeProbe:
        if os.geteuid() != 0:
            return RuntimeProbe(self.name, False, "only root can start it")
        return try_out(self, (_PROGRAM,), self._program)

    def plan(self, launch: Launch) -> RuntimePlan:
        """Returns the plan. Raises Unfit for a launch that nspawn cannot make: as a user other than root,
        with a colon in a path, or of an image in /run."""
        if not launch.as_root:
            raise Unfit(f"{_PROGRAM} starts programs of root only")
        if f"{launch.root}/".startswith(f"{_STATE}/"):
            raise Unfit(f"image {launch.root}: {_PROGRAM} has its own files in {_STATE}")
        surroundings = enclosed.surround(launch, _NEEDED)
        with_shell = path_in_image.resolve(launch.root, _SHELL)[1] == ""
        options = (
            _PROGRAM,
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--as-pid2",
            "--read-only",
            "--drop-capability=all",
            "--no-new-privileges=yes",
            "--console=pipe",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            "--settings=override",
            "--machine=lazyfs",
            f"--directory={launch.root}",
            f"--chdir={launch.workdir}",
            f"--tmpfs={surroundings.tmp}:mode=1777",
            *self._binds(surroundings),
            "--",
            *((_SHELL, "-c", _WRAPPER, "sh") if with_shell else ()),
        )
        enclosed.check_lines(launch, _PROGRAM)
        lines = "".join(f"Environment={_quoted(name, value)}\n" for name, value in launch.environment.items())
        settings = os.fsencode(f"[Exec]\n{lines}")
        enclosure = surroundings.enclosure(
            launch,
            {f"{_STATE}/systemd/nspawn/lazyfs.nspawn": settings},
            environment={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "NOTIFY_SOCKET": os.path.join(launch.scratch, NOTIFY),
                "SYSTEMD_NSPAWN_LOCK": "0",  # a file beside the image, which stays if nspawn is killed
            },
            own_names=_OWN_NAMES,
            covered=(_STATE,),
            own_group=True,
            in_shell=with_shell,
            notified=True,
        )
        return enclosed.plan_of(launch, options, enclosure)

    def _binds(self, surroundings: enclosed.Surroundings) -> Iterator[str]:
        for inner in surroundings.mounts:
            option = "--bind-ro" if inner.options[0] == "ro" else "--bind"
            yield f"{option}={enclosed.source_and_target(inner, _PROGRAM)}"

    def start(self, plan: RuntimePlan) -> RuntimeExit:
        return enclosed.start_with(plan, (_PROGRAM,), self._program)

    def read_end(self, ended: RuntimeExit) -> ProgramEnd:
        return enclosed.program_end(ended, self.name, enclosed.is_evident)


def _quoted(name: str, value: str) -> str:
    """Returns the assignment NAME=VALUE, quoted as in systemd.syntax(7) so that backslashes are kept."""
    return "'" + f"{name}={value}".replace("'", "'\"'\"'") + "'"
