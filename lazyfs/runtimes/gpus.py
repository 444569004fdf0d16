"""GPUs for a program: devices, the driver's libraries and tools, and the GPUs that a batch system has given
it.

The driver's libraries have to match the machine's kernel, so no image can have them. NVIDIA's
`nvidia-container-cli list` names them. They are bound into a directory of their own, and a variable tells the
program's dynamic loader about this directory.
"""

import os
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.launch import Bind, Launch

KINDS = ("nv", "rocm")
"""NVIDIA's and AMD's GPUs, named like the options of apptainer."""
_LIST = "nvidia-container-cli"
_SECONDS = 30
_TOP = "/.lazyfs-gpu"
_ROCM_DEVICES = ("/dev/kfd", "/dev/dri")
_CHOSEN = (
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
)
"""Variables with which a batch system tells a job which of the machine's GPUs it may use."""


def chosen_gpus(kinds: Sequence[str], callers: Mapping[str, str]) -> dict[str, str]:
    """Returns those of the caller's variables that choose GPUs; none if `kinds` is empty."""
    return {name: callers[name] for name in _CHOSEN if name in callers} if kinds else {}


def kinds_here() -> tuple[str, ...]:
    """Returns the kinds of GPU that this machine has."""
    found = {"nv": "/dev/nvidiactl", "rocm": "/dev/kfd"}
    return tuple(kind for kind in KINDS if os.path.exists(found[kind]))


def with_gpus(launch: Launch, executable: str | None) -> Launch:
    """Returns the launch with binds and variables for the GPUs that it wants. For a runtime without options
    for GPUs.

    `executable`: nvidia-container-cli's path; None if it is not installed. Raises UsageError if the machine
    has no such GPU.
    """
    binds: list[Bind] = []
    environment = dict(launch.environment)
    if "nv" in launch.gpus:
        listed = list(_nvidia(_listed(executable)))
        binds += listed
        if any(bind.target.startswith(f"{_TOP}/lib/") for bind in listed):
            _put_last(environment, "LD_LIBRARY_PATH", f"{_TOP}/lib")
        if any(bind.target.startswith(f"{_TOP}/bin/") for bind in listed):
            _put_last(environment, "PATH", f"{_TOP}/bin")
    if "rocm" in launch.gpus:
        devices = [path for path in _ROCM_DEVICES if os.path.exists(path)]
        if not devices:
            raise UsageError("--rocm: this machine has no AMD GPU (no /dev/kfd, no /dev/dri)")
        binds += [Bind(path, path) for path in devices]
    taken = {bind.target for bind in launch.binds}
    added = tuple(bind for bind in binds if bind.target not in taken)
    return launch._replace(binds=(*launch.binds, *added), environment=environment, gpus=())


def _listed(executable: str | None) -> list[str]:
    if executable is None:
        raise UsageError(f"--nv: {_LIST} is not on PATH; install libnvidia-container-tools")
    try:
        done = subprocess.run(
            [executable, "list"], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"--nv: {executable} list: {error}") from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise UsageError(f"--nv: {executable} list: {said[0]}")
    return [line for line in done.stdout.splitlines() if line.startswith("/")]


def _nvidia(paths: Sequence[str]) -> Iterator[Bind]:
    """Yields the binds for the `paths` that nvidia-container-cli lists. Devices, sockets and firmware keep
    their paths; programs and libraries get directories of their own."""
    seen: set[str] = set()
    for path in paths:
        try:
            mode = os.stat(path).st_mode
        except OSError:
            continue
        name = os.path.basename(path)
        if not stat.S_ISREG(mode):
            yield Bind(path, path, stat.S_ISDIR(mode))
        elif ".so" in name:
            for other in _names_of(path):
                if other not in seen:  # 64 and 32 bits have the same names: the first one counts
                    seen.add(other)
                    yield Bind(path, f"{_TOP}/lib/{other}", True)
        elif mode & 0o111:
            yield Bind(path, f"{_TOP}/bin/{name}", True)
        else:
            yield Bind(path, path, True)


def _names_of(library: str) -> list[str]:
    """Returns the names under which programs load a library: its own name, and the names of the links to it
    in the library's directory."""
    directory, own = os.path.split(library)
    real = os.path.realpath(library)
    stem = own.split(".so", 1)[0] + ".so"
    others = [name for name in os.listdir(directory) if name.startswith(stem) and name != own]
    return [own, *(name for name in others if os.path.realpath(os.path.join(directory, name)) == real)]


def _put_last(environment: dict[str, str], name: str, directory: str) -> None:
    before = environment.get(name)
    environment[name] = f"{before}:{directory}" if before else directory
