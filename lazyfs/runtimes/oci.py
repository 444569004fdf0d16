"""runc and crun: runtimes that take a root directory and a config.json, as the OCI runtime specification has
it.

They are told not to wait for the program (--detach); the enclosure's init does. runc, while it waits, passes
the program's standard streams through itself and reads ahead. crun adopts what the program leaves in the
background, and waits for that too: it counts on a pid namespace that ends with the program.
"""

import json
import os
from typing import Any

from lazyfs.runtimes import enclosed
from lazyfs.runtimes.enclosure import CGROUPS
from lazyfs.runtimes.launch import Launch
from lazyfs.runtimes.protocol import ProgramEnd, RuntimeExit, RuntimePlan, RuntimeProbe
from lazyfs.runtimes.trial import try_out

_OWN_NAMES = ("runc", "crun", "runc:[0:PARENT]", "runc:[1:CHILD]", "runc:[2:INIT]", "libcrun")

_NO_HELPERS = "/var/empty"
"""A PATH without newuidmap. crun would call newuidmap even to map one user, which needs no help; and
newuidmap fails for users without a name."""

COPIES = "_LIBCONTAINER_STATEDIR"
"""The variable that tells crun where to make the read-only copy of itself that it executes. Without it crun
makes a file in the machine's /tmp, and leaves the file there if it is killed meanwhile."""


class OciRuntime:
    """Runs programs with a runtime that has the command line of runc."""

    def __init__(self, name: str, options: tuple[str, ...], program: str | None, *, shows_root: bool) -> None:
        """`options`: options put before `run`. `shows_root`: True if a program that a user starts has user
        id 0 (root) inside, because the runtime starts nothing in a user namespace without a user 0."""
        self.name = name
        self._options = options
        self._program = program
        self._shows_root = shows_root
        self._path = "/usr/sbin:/usr/bin:/sbin:/bin" if shows_root else _NO_HELPERS

    def probe(self) -> RuntimeProbe:
        return try_out(self, (self.name,), self._program)

    def plan(self, launch: Launch) -> RuntimePlan:
        surroundings = enclosed.surround(launch)
        inside = launch.scratch
        config = configuration(launch, surroundings, shows_root=self._shows_root)
        options = (
            self.name,
            *self._options,
            "--log",
            f"{inside}/log",
            "--root",
            f"{inside}/state",
            "run",
            "--detach",
            "--no-new-keyring",
            "--pid-file",
            f"{inside}/pid",
            "--bundle",
            f"{inside}/bundle",
            "lazyfs",
        )
        files = {"bundle/config.json": json.dumps(config).encode(), "state/": b"", "temporary/": b""}
        enclosure = surroundings.enclosure(
            launch,
            files,
            environment={
                "PATH": self._path,
                "XDG_RUNTIME_DIR": f"{inside}/temporary",
                COPIES: f"{inside}/temporary",
            },
            evidence="pid",
            detached=True,
            own_names=_OWN_NAMES,
            frozen=CGROUPS,
        )
        return enclosed.plan_of(launch, options, enclosure, in_options=True)

    def start(self, plan: RuntimePlan) -> RuntimeExit:
        return enclosed.start_with(plan, (self.name,), self._program)

    def read_end(self, ended: RuntimeExit) -> ProgramEnd:
        """Returns the program's end. The evidence of a start is the file with the program's process id
        (--pid-file): runc and crun write it only after they have executed the program."""
        return enclosed.program_end(ended, self.name, enclosed.is_evident)


def runc(program: str | None = None) -> OciRuntime:
    return OciRuntime("runc", ("--rootless", "true"), program, shows_root=True)


def crun(program: str | None = None) -> OciRuntime:
    return OciRuntime("crun", ("--cgroup-manager", "disabled"), program, shows_root=False)


def configuration(launch: Launch, surroundings: enclosed.Surroundings, *, shows_root: bool) -> dict[str, Any]:
    """Returns the content of config.json. Texts from the image appear in it only as JSON strings and list
    elements. `shows_root`: True if a program that a user starts has user id 0 (root) and group id 0 in
    its user namespace, False if it has the user's own ids there.

    The enclosure's /proc is shown, because the program belongs to the enclosure's pid namespace. Binds are
    slaves of the machine's mounts: what is mounted below them later, by an automounter above all, is seen
    inside. By default the runtimes would keep it out.
    """
    user, group = launch.identity
    inner_user, inner_group = (0, 0) if shows_root else (user, group)
    mounts: list[dict[str, Any]] = [
        _mount("bind", "/proc", "/proc", "rbind", "nosuid", "noexec", "nodev"),
        _mount("tmpfs", "tmpfs", "/dev", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount(
            "devpts", "devpts", "/dev/pts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"
        ),
        _mount("tmpfs", "shm", "/dev/shm", "nosuid", "noexec", "nodev", "mode=1777"),  # noqa: S108
        _mount("tmpfs", "tmpfs", surroundings.tmp, "nosuid", "nodev", "mode=1777"),
    ]
    mounts += [
        _mount("bind", inner.source, inner.target, "rbind", "rslave", *inner.options)
        for inner in surroundings.mounts
    ]
    linux: dict[str, Any] = {
        "namespaces": [{"type": "mount"}],
        "rootfsPropagation": "rslave",
        "maskedPaths": [],
        "readonlyPaths": [],
    }
    if not launch.as_root:
        linux["namespaces"].append({"type": "user"})
        linux["uidMappings"] = [{"containerID": inner_user, "hostID": user, "size": 1}]
        linux["gidMappings"] = [{"containerID": inner_group, "hostID": group, "size": 1}]
    return {
        "ociVersion": "1.0.2",
        "root": {"path": launch.root, "readonly": True},
        "process": {
            "terminal": False,
            "user": {"uid": inner_user, "gid": inner_group},
            "args": list(launch.command),
            "env": [f"{name}={value}" for name, value in launch.environment.items()],
            "cwd": os.path.normpath(launch.workdir),
            "capabilities": {},
            "noNewPrivileges": True,
        },
        "mounts": mounts,
        "linux": linux,
    }


def _mount(kind: str, source: str, target: str, *options: str) -> dict[str, Any]:
    return {"type": kind, "source": source, "destination": target, "options": list(options)}
