"""docker: for root and the members of docker's group. The container of a start belongs to docker's daemon, so
the daemon is asked to remove it."""

import json
import os
import stat
from typing import Any

from lazyfs.runtimes.batch_job import own_batch_system
from lazyfs.runtimes.docker_api import SOCKET, DockerApi, DockerError
from lazyfs.runtimes.docker_root import DockerRoot, docker_root
from lazyfs.runtimes.enclosed import check_utf8, executable_of, plain
from lazyfs.runtimes.launch import Launch
from lazyfs.runtimes.protocol import RUNTIME_FAILED, ProgramEnd, RuntimeExit, RuntimePlan, RuntimeProbe, Unfit
from lazyfs.runtimes.supervise import supervise
from lazyfs.runtimes.trial import try_out
from lazyfs.runtimes.watcher import children
from lazyfs.system.clean_start import callers_environment

_PROGRAM, _INIT = "docker", "docker-init"
_NEVER = "0001-01-01"
"""The date in `StartedAt` of a container that was never started."""


class Docker:
    """Runs programs with `dockerd` 19.03 or newer, and the command `docker` for the program's streams."""

    name = "docker"
    knows_gpus = True

    def __init__(self, program: str | None = None) -> None:
        """`program`: the path of the daemon's socket, if it is not /run/docker.sock; or the path of the
        command `docker`."""
        is_socket = program is not None and _is_socket(program)
        self._api = DockerApi(program if program is not None and is_socket else SOCKET)
        self._program = None if is_socket else program

    def probe(self) -> RuntimeProbe:
        """Tries docker and returns the result. The daemon is asked for its version first, because its own
        error is shorter than that of a failed start."""
        if executable_of((_INIT,)) is None:
            return RuntimeProbe(self.name, False, f"{_INIT} is not on PATH; install tini")
        if executable_of((_PROGRAM,), self._program) is None:
            return RuntimeProbe(self.name, False, f"{self._program or _PROGRAM} is not on PATH; install it")
        try:
            self._api.version()
        except DockerError as error:
            return RuntimeProbe(self.name, False, str(error))
        return try_out(self, (_PROGRAM,), self._program)

    def plan(self, launch: Launch) -> RuntimePlan:
        """Returns the plan. Raises Unfit in a batch job, because the daemon's containers are outside of the
        job's control group, and for a launch that docker cannot make."""
        batch = own_batch_system(callers_environment())
        if batch is not None:
            raise Unfit(
                f"docker's daemon starts the program outside of the job's control group: {batch} could "
                "neither end nor limit it"
            )
        if launch.is_file:
            raise Unfit("docker starts directories only")
        if "rocm" in launch.gpus:
            raise Unfit("docker knows no GPUs of AMD")
        check_utf8(launch, self.name)
        name = os.path.basename(launch.scratch)
        root = docker_root(launch)
        configuration = container_configuration(launch, root, name, executable_of((_INIT,)) or _INIT)
        options = (_PROGRAM, "--host", f"unix://{self._api.path}", "start", "--attach", "--interactive", name)
        return RuntimePlan(
            options,
            (),
            ("docker", "run", "--interactive", json.dumps(configuration, ensure_ascii=False)),
            reachable=_reachable(launch),
            attendant=_Container(self._api, name, root.archive, configuration),
        )

    def start(self, plan: RuntimePlan) -> RuntimeExit:
        executable = executable_of((_PROGRAM,), self._program) or _PROGRAM
        attendant = plan.attendant
        assert attendant is not None
        return supervise(plan, executable, lambda _: None, lambda _: attendant.programs())

    def read_end(self, ended: RuntimeExit) -> ProgramEnd:
        """Returns the program's end as the daemon reports it. If a signal ended the command that passes the
        streams on, the program has ended by that signal, or was never started because of it."""
        state = json.loads(ended.status or b"{}")
        started = _was_started(state)
        if state.get("Error"):
            os.write(2, f"lazyfs: docker: {state['Error']}\n".encode(errors="replace"))
            started = False
        if ended.code < 0:
            return ProgramEnd(128 - ended.code, started, failed=None if started else "program")
        if not started:
            return ProgramEnd(RUNTIME_FAILED, started=False)
        limit = "memory" if state.get("OOMKilled") else None
        return ProgramEnd(int(state["ExitCode"]), started=True, limit=limit)


class _Container:
    """Deals with one container of the daemon; implements `Attendant`. The container and its image both have
    the start's name."""

    def __init__(self, api: DockerApi, name: str, archive: bytes, configuration: dict[str, Any]) -> None:
        self._api = api
        self._name = name
        self._archive = archive
        self._configuration = configuration

    def make(self) -> None:
        self._api.load(self._name, self._archive)
        self._api.create(self._name, self._configuration)

    def report(self) -> bytes:
        return json.dumps(self._api.state(self._name)).encode()

    def programs(self) -> list[int]:
        """Returns the process id of the program, docker-init's child, in a list; an empty list if no program
        is running."""
        try:
            init = int(self._api.state(self._name)["Pid"])
        except DockerError:
            return []
        return children(init) if init else []

    def is_starting(self) -> bool:
        """Returns True if the container was never started, or if docker-init has made no child yet."""
        try:
            state = self._api.state(self._name)
        except DockerError:
            return False
        return not _was_started(state) or (bool(state["Running"]) and not children(int(state["Pid"])))

    def remove(self) -> None:
        self._api.remove(self._name)


def container_configuration(launch: Launch, root: DockerRoot, image: str, init: str) -> dict[str, Any]:
    """Returns the body of POST /containers/create. docker-init is process 1 in the container, because the
    kernel would keep signals from a program that is process 1. `image`: the name of docker's image. `init`:
    the path of docker-init on this machine."""
    inner = f"/.{image}-init"
    user, group = launch.identity
    gpus = [{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}] if launch.gpus else []
    limits = {"Memory": launch.limits.memory, "PidsLimit": launch.limits.processes}
    bind = {"Type": "bind", "Source": os.path.realpath(init), "Target": inner, "ReadOnly": True}
    return {
        "Image": image,
        "User": f"{user}:{group}",
        "Env": [f"{name}={value}" for name, value in launch.environment.items()],
        "WorkingDir": launch.workdir,
        "Entrypoint": [inner, "--"],
        "Cmd": list(launch.command),
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": {
            **{name: limit for name, limit in limits.items() if limit is not None},
            "DeviceRequests": gpus,
            "ReadonlyRootfs": True,
            "NetworkMode": "host" if launch.network else "none",
            "IpcMode": "private",
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "LogConfig": {"Type": "none"},
            "Mounts": [bind, *root.mounts],
            "DeviceCgroupRules": root.device_rules,
            "Tmpfs": {plain(root.tmp, "docker", "the image's /tmp"): "rw,exec,nosuid,nodev,mode=1777"},
        },
    }


def _was_started(state: dict[str, Any]) -> bool:
    return not state.get("StartedAt", _NEVER).startswith(_NEVER)


def _reachable(launch: Launch) -> tuple[str, ...]:
    if not launch.network:
        return ()
    return "the network", "abstract sockets (--network none keeps them out)"


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return path.endswith(".sock")
