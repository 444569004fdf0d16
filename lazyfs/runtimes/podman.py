"""podman: `--rootfs IMAGE:O`, without a store of images. Its own storage lies in memory and is gone after the
start (`enclosure`)."""

import os

from lazyfs.core.errors import UsageError
from lazyfs.runtimes import enclosed, path_in_image
from lazyfs.runtimes.bind_places import mount_points
from lazyfs.runtimes.enclosure import AddedPath
from lazyfs.runtimes.launch import Launch
from lazyfs.runtimes.oci import COPIES
from lazyfs.runtimes.protocol import ProgramEnd, RuntimeExit, RuntimePlan, RuntimeProbe
from lazyfs.runtimes.trial import try_out

_PROGRAM = "podman"
_OWN_NAMES = (
    "podman",
    "conmon",
    "runc",
    "runc:[0:PARENT]",
    "runc:[1:CHILD]",
    "runc:[2:INIT]",
    "crun",
    "libcrun",
    "exe",
)
_NEEDED = (
    AddedPath("/etc/mtab", False, "/proc/mounts"),
    AddedPath("/etc/hosts", False),
    AddedPath("/etc/hostname", False),
    AddedPath("/etc/resolv.conf", False),
    AddedPath("/run/.containerenv", False),
    AddedPath("/run/secrets", True),
    AddedPath("/sys", True),
)
_CONFIGURATION = b"""\
[containers]
default_ulimits = []
default_capabilities = []
keyring = false
env = []
netns = "host"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
no_pivot_root = false
"""


_START = 'exec "$0" "$@" 3<&0 4>&1 5>&2'
"""A shell script that becomes podman, with copies of the standard streams at the descriptors that podman
preserves."""
_WRAPPER = """\
#!/bin/sh
export COPIES=SCRATCH/temporary
crun="crun --cgroup-manager disabled --root SCRATCH/state"
for word do
    shift
    [ "$option" = --preserve-fds ] && set -- "$@" 0 || set -- "$@" "$word"
    option=$word
done
case " $* " in
*" create "*) exec $crun "$@" <&3 >&4 2>&5 3<&- 4>&- 5>&- ;;
*" start "*) $crun "$@" && echo >SCRATCH/started ;;
*) exec $crun "$@" ;;
esac
"""
"""A script that podman calls in place of crun. It tells crun to make no control group, so that the program
stays in the batch system's group. It writes a file as evidence of a start. It connects the program to the
caller's own streams: podman and conmon would pass them on through sockets and pipes, and read ahead of the
program."""


class Podman:
    """Runs programs with `podman` 4 or newer."""

    name = "podman"

    def __init__(self, program: str | None = None) -> None:
        """`program`: the executable, if it is not on PATH."""
        self._program = program

    def probe(self) -> RuntimeProbe:
        return try_out(self, (_PROGRAM,), self._program)

    def plan(self, launch: Launch) -> RuntimePlan:
        surroundings = enclosed.surround(launch, _NEEDED)
        inside = launch.scratch
        binds = [
            f"--volume={enclosed.source_and_target(inner, _PROGRAM)}:rbind,rslave,{','.join(inner.options)}"
            for inner in surroundings.mounts
        ]
        options = (
            _PROGRAM,
            "--log-level=error",
            f"--root={inside}/storage",
            f"--runroot={inside}/run",
            f"--tmpdir={inside}/libpod",
            "--storage-driver=vfs",
            "--runtime=crun",
            "run",
            "--preserve-fds=3",
            "--network=host",
            "--pid=host",
            "--ipc=private",
            "--uts=host",
            "--cgroups=no-conmon",
            "--cgroupns=host",
            "--cap-drop=all",
            "--security-opt=no-new-privileges",
            "--security-opt=seccomp=unconfined",
            "--read-only",
            "--read-only-tmpfs=false",
            "--no-hosts",
            "--log-driver=none",
            "--http-proxy=false",
            f"--env-file={inside}/environment",
            f"--workdir={_workdir(launch)}",
            f"--tmpfs={surroundings.tmp}:rw,mode=1777,nosuid,nodev",
            *binds,
            "--rootfs",
            f"{launch.root}",
        )
        enclosure = surroundings.enclosure(
            launch,
            _files(launch),
            environment=_environment(launch),
            evidence="started",
            own_names=_OWN_NAMES,
            shows_root=True,
        )
        return enclosed.plan_of(launch, options, enclosure)

    def start(self, plan: RuntimePlan) -> RuntimeExit:
        executable = enclosed.executable_of((_PROGRAM,), self._program)
        if executable is None:
            raise UsageError(f"{self._program or _PROGRAM} cannot be executed any more")
        options = ("sh", "-c", _START, executable, *plan.options[1:])
        return enclosed.start(plan._replace(options=options), "/bin/sh")

    def read_end(self, ended: RuntimeExit) -> ProgramEnd:
        """Returns the program's end. The script in place of crun makes a file once the program is started."""
        return enclosed.program_end(ended, self.name, enclosed.is_evident)


def _workdir(launch: Launch) -> str:
    """Returns the working directory without the image's links: podman does not find a directory to which one
    leads in a bind."""
    points = mount_points(launch.root, launch.binds)
    where = path_in_image.locate(launch.root, launch.workdir, points.all)
    return os.path.join(where.found, *where.rest)


def _files(launch: Launch) -> dict[str, bytes]:
    """Returns podman's files and directories in the scratch directory of a start."""
    inside = launch.scratch
    return {
        "environment": enclosed.lines_of_environment(launch, _PROGRAM),
        "containers.conf": _CONFIGURATION + f'[engine.runtimes]\ncrun = ["{inside}/crun"]\n'.encode(),
        "crun": _WRAPPER.replace("SCRATCH", inside).replace("COPIES", COPIES).encode(),
        "run/": b"",
        "state/": b"",
        "temporary/": b"",
        "configuration/": b"",
    }


def _environment(launch: Launch) -> dict[str, str]:
    """Returns podman's own environment, which its program does not get."""
    inside = launch.scratch
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": inside,
        "TMPDIR": f"{inside}/temporary",
        "XDG_RUNTIME_DIR": f"{inside}/run",
        "XDG_CONFIG_HOME": f"{inside}/configuration",
        "CONTAINERS_CONF": f"{inside}/containers.conf",
    }
    user, group = launch.identity
    if user:
        environment |= {
            "_CONTAINERS_USERNS_CONFIGURED": "done",
            "_CONTAINERS_ROOTLESS_UID": str(user),
            "_CONTAINERS_ROOTLESS_GID": str(group),
        }
    return environment
