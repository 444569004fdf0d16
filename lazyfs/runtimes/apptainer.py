"""Apptainer and Singularity: the runtime of most grid sites. Takes directories and SIF files."""

from lazyfs.runtimes import enclosed, path_in_image
from lazyfs.runtimes.launch import Launch
from lazyfs.runtimes.protocol import ProgramEnd, RuntimeExit, RuntimePlan, RuntimeProbe, Unfit
from lazyfs.runtimes.trial import try_out

_PROGRAMS = ("apptainer", "singularity")
_OWN_NAMES = (
    "apptainer",
    "singularity",
    "starter",
    "starter-suid",
    "Apptainer runti",
    "sinit",
    "appinit",
)
_FAILED = 255
_SHELL = "/bin/sh"
_STARTER = 'case $1 in [0-9]) echo started >&$1; eval "exec $1>&-" ;; esac; shift; exec "$@"'
"""A shell script that writes to descriptor $1 and then becomes the program. The output proves that apptainer
has started the program: exit code 255 alone may be apptainer's own or the program's. sh can redirect only
descriptors of one digit."""


class Apptainer:
    """Runs programs with `apptainer` 1.0 or newer, or with `singularity` 3.9 or newer."""

    name = "apptainer"
    knows_gpus = True

    def __init__(self, program: str | None = None) -> None:
        """`program`: the executable, if it is not on PATH."""
        self._program = program

    def probe(self) -> RuntimeProbe:
        return try_out(self, _PROGRAMS, self._program)

    def plan(self, launch: Launch) -> RuntimePlan:
        """Returns the plan of a launch. Raises Unfit for a launch that binds a device: the program could not
        open the device through apptainer's bind."""
        surroundings = enclosed.surround_file(launch) if launch.is_file else enclosed.surround(launch)
        if any(source.device for source in surroundings.sources):
            raise Unfit("apptainer binds no device that can be opened")
        inside = launch.scratch
        with_shell = not launch.is_file and path_in_image.resolve(launch.root, _SHELL)[1] == ""
        home = launch.environment.get("HOME", "/")
        binds = [
            word
            for inner in surroundings.mounts
            for word in ("--bind", f"{enclosed.source_and_target(inner, self.name)}:{inner.options[0]}")
        ]
        options = (
            "apptainer",
            "--silent",
            "exec",
            "--cleanenv",
            "--contain",
            "--no-home",
            f"--home={inside}/temporary:{enclosed.plain(home, self.name, 'HOME')}",
            "--no-privs",
            "--no-eval",
            "--no-mount=sys,cwd,hostfs,bind-paths",
            *(f"--{kind}" for kind in launch.gpus),
            *binds,
            "--pwd",
            launch.workdir,
            launch.root,
            *((_SHELL, "-c", _STARTER, "sh", RuntimePlan.STATUS) if with_shell else ()),
        )
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": inside,
            "TMPDIR": f"{inside}/temporary",
            "APPTAINER_CONFIGDIR": f"{inside}/configuration",
            "APPTAINER_TMPDIR": f"{inside}/temporary",
            "APPTAINER_CACHEDIR": f"{inside}/cache",
            **{f"APPTAINERENV_{name}": value for name, value in launch.environment.items() if name != "HOME"},
        }
        enclosure = surroundings.enclosure(
            launch,
            {"temporary/": b""},
            environment=environment,
            evidence="started" if with_shell else None,
            evidence_open=True,
            own_names=_OWN_NAMES,
        )
        return enclosed.plan_of(launch, options, enclosure)

    def start(self, plan: RuntimePlan) -> RuntimeExit:
        return enclosed.start_with(plan, _PROGRAMS, self._program)

    def read_end(self, ended: RuntimeExit) -> ProgramEnd:
        """Returns the program's end. Exit code 255 without evidence of a start counts as apptainer's own
        failure."""
        return enclosed.program_end(ended, self.name, lambda report: report.evident or report.code != _FAILED)
