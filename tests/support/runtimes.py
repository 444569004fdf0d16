"""The supported container runtimes, and the argv of each for a root filesystem on a read-only mount."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

_GET_APPTAINER: Final = Path(__file__).parents[2] / "tools/get-apptainer"
PODMAN_CONF: Final = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
"""Settings with which podman starts without systemd, and where its default ulimits exceed the machine's."""
NOBODY: Final = 65534


class Job(NamedTuple):
    """A program to run, and the files that it needs in its root filesystem."""

    root: str
    """The image's root on the mount."""
    command: Sequence[str]
    directory: Path
    """A directory of the host that the program sees, and may write to, as /srv."""
    resolv: Path
    """The host's file that the program sees as /etc/resolv.conf."""
    scratch: Path
    """A directory for the runtime's own files, which belongs to its user. Podman needs a short path."""
    user: int | None
    """The uid that calls the runtime; None for root."""


class Runtime(NamedTuple):
    """One way to start a Job."""

    name: str
    argv: Callable[[Job], list[str]]
    writable: bool = False
    """The program may write to its root, into a layer that is thrown away."""
    squashed: bool = False
    """A user's start needs a tree that is the user's own: `mount --uid --gid`."""


def run(runtime: Runtime, job: Job) -> subprocess.CompletedProcess[str]:
    """Runs the job as its user, in namespaces of its own, so that no mount or process of the runtime stays
    behind."""
    argv = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]
    argv += ["sh", "-ec", _NAMESPACE, "sh"]
    argv += [str(_subordinate_ids(job)), *_as_user(job), *runtime.argv(job)]
    # From /: the checkout may lie where another user cannot go.
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=100, cwd="/")


_NAMESPACE: Final = """\
for file in /etc/subuid /etc/subgid; do
    [ ! -e "$file" ] || mount --bind "$1" "$file"
done
# crun refuses a machine with both versions of cgroups; without the unified one it is all version 1
[ ! -d /sys/fs/cgroup/unified ] || umount /sys/fs/cgroup/unified
shift
exec "$@"
"""


def _subordinate_ids(job: Job) -> Path:
    """Writes a range of ids for rootless podman, so that the machine's own /etc/subuid stays as it is."""
    ids = job.directory.parent / "subordinate-ids"
    ids.write_text("nobody:100000:65536\n")
    return ids


def _as_user(job: Job) -> list[str]:
    if job.user is None:
        return []
    identity = ["setpriv", f"--reuid={job.user}", f"--regid={job.user}", "--clear-groups"]
    home = {"HOME": str(job.scratch), "USER": "nobody", "XDG_RUNTIME_DIR": str(job.scratch / "run")}
    (job.scratch / "run").mkdir(mode=0o700, exist_ok=True)
    os.chown(job.scratch / "run", job.user, job.user)
    return [*identity, "env", *(f"{name}={value}" for name, value in home.items())]


def _bubblewrap(job: Job) -> list[str]:
    sandbox = ["bwrap", "--ro-bind", job.root, "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    binds = ["--bind", str(job.directory), "/srv", "--ro-bind", str(job.resolv), "/etc/resolv.conf"]
    return [*sandbox, *binds, "--unshare-all", "--die-with-parent", *job.command]


def _charliecloud(job: Job) -> list[str]:
    binds = [f"--bind={job.directory}:/srv", f"--bind={job.resolv}:/etc/resolv.conf"]
    return ["env", "USER=somebody", "ch-run", *binds, job.root, "--", *job.command]


def _oci(program: str) -> Callable[[Job], list[str]]:
    def argv(job: Job) -> list[str]:
        bundle = job.scratch / f"bundle-{program}"
        bundle.mkdir()
        rootless = ["--rootless"] if job.user is not None else []
        subprocess.run(["runc", "spec", *rootless], cwd=bundle, check=True)
        config = json.loads((bundle / "config.json").read_text())
        config["root"] = {"path": job.root, "readonly": True}
        config["process"].update(args=list(job.command), terminal=False, rlimits=[])
        for source, target, how in ((job.directory, "/srv", "rw"), (job.resolv, "/etc/resolv.conf", "ro")):
            bind = {"destination": target, "type": "bind", "source": str(source), "options": ["rbind", how]}
            config["mounts"].append(bind)
        if rootless:
            for mapping in ("uidMappings", "gidMappings"):
                config["linux"][mapping] = [{"containerID": 0, "hostID": job.user, "size": 1}]
        (bundle / "config.json").write_text(json.dumps(config))
        state = job.scratch / f"state-{program}"
        return [program, "--root", str(state), "run", "--bundle", str(bundle), f"lazyfs-{os.getpid()}"]

    return argv


def _podman(job: Job) -> list[str]:
    configuration = job.scratch / "containers.conf"
    configuration.write_text(PODMAN_CONF)
    roots = ["--root", str(job.scratch / "storage"), "--runroot", str(job.scratch / "run/podman")]
    binds = [f"--volume={job.directory}:/srv", f"--volume={job.resolv}:/etc/resolv.conf:ro"]
    podman = ["env", f"CONTAINERS_CONF={configuration}", "podman", "--log-level=error", *roots]
    podman += ["--runtime", "runc", "run", "--rm", "--network=none", *binds]
    # :O puts a writable overlay on the read-only root. A user's podman makes files in it (/etc/mtab,
    # /run/.containerenv), which the kernel allows only where the lower directory is that user's.
    return [*podman, "--rootfs", f"{job.root}:O", *job.command]


def _apptainer(*options: str) -> Callable[[Job], list[str]]:
    def argv(job: Job) -> list[str]:
        program = str(apptainer_prefix() / "usr/bin/apptainer")
        binds = ["--bind", f"{job.directory}:/srv", "--bind", f"{job.resolv}:/etc/resolv.conf"]
        environment = [f"APPTAINER_CONFIGDIR={job.scratch}/apptainer", f"APPTAINER_TMPDIR={job.scratch}"]
        call = ["env", *environment, program, "--silent", "exec", "--no-home", "--contain", "--cleanenv"]
        return [*call, *options, *binds, job.root, *job.command]

    return argv


def apptainer_prefix() -> Path:
    """Installs apptainer with tools/get-apptainer, once per machine; returns its prefix."""
    prefix = Path("/tmp/lazyfs-apptainer")
    subprocess.run([_GET_APPTAINER, prefix], check=True, stdout=sys.stderr)
    return prefix


RUNTIMES: Final = (
    Runtime("bubblewrap", _bubblewrap),
    Runtime("charliecloud", _charliecloud),
    Runtime("runc", _oci("runc")),
    Runtime("crun", _oci("crun")),
    Runtime("podman --rootfs :O", _podman, writable=True, squashed=True),
    Runtime("apptainer", _apptainer()),
    # Squashed: the kernel's overlay lets a user write only where the image's own permissions do.
    Runtime("apptainer --writable-tmpfs", _apptainer("--writable-tmpfs"), writable=True, squashed=True),
)
