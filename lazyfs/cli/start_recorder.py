"""Records starts of programs: mounts the store, runs the command in the image, unmounts.

Mount and command are processes of their own, in an environment and a home without keys and credentials; the
command runs isolated, without network, within bounds of time and memory.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from lazyfs.core.byte_size import shown_size
from lazyfs.core.digits import natural
from lazyfs.core.errors import LazyfsError
from lazyfs.core.printable import printable
from lazyfs.sync.starts import NoRecorder

LAZYFS = (sys.executable, "-m", "lazyfs")
ALONE = ("--network", "none")
"""Options of `lazyfs run` for a stranger's program."""
MOUNT_SECONDS = 60.0
"""Seconds for mounting and for unmounting."""
END_SECONDS = 5.0
"""Seconds from the request to end to the kill."""
LOOK = 0.1
"""Seconds between two looks at the memory of a start."""
CACHE = "4G"
"""Size of the cache of the mount, which is made for one image."""
PROCESSES = 4096
PREFIX = "lazyfs-start-"
"""The beginning of the names of the folders for temporary files; the process's id follows."""


class RecordingFailed(LazyfsError):
    """A command failed, or took more than it may."""


class StartRecorder:
    """Records starts from one store."""

    def __init__(
        self,
        store: str,
        seconds: float,
        memory: int,
        *,
        options: Sequence[str] = ALONE,
        output: int = subprocess.DEVNULL,
    ) -> None:
        """`seconds`: after so long a command is ended; its reads up to then are its start. `memory`:
        bytes that its processes and its /tmp may take together. `options`: of `lazyfs run`. `output`: the
        descriptor for the output and errors of commands."""
        self._store = store
        self._options = options
        self._output = output
        self._seconds = seconds
        self._memory = memory
        self._work: list[str] = []

    def close(self) -> None:
        """Deletes the traces."""
        for directory in self._work:
            shutil.rmtree(directory, ignore_errors=True)
        self._work.clear()

    def record(self, place: str, commands: Sequence[Sequence[str]]) -> list[str]:
        if not os.path.exists("/dev/fuse"):
            raise NoRecorder("this machine has no /dev/fuse")
        self._clear()
        work = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-")
        self._work.append(work)
        trace = os.path.join(work, "trace")
        with self._mounted(work, trace) as mountpoint:
            for number, command in enumerate(commands):
                self._start(work, os.path.join(mountpoint, place), command, number)
        return [trace]

    def _clear(self) -> None:
        """Unmounts and deletes the folders of runs that were killed."""
        above = tempfile.gettempdir()
        for name in os.listdir(above):
            pid = natural(name.removeprefix(PREFIX).partition("-")[0]) if name.startswith(PREFIX) else None
            work = os.path.join(above, name)
            if pid is None or os.path.exists(f"/proc/{pid}") or os.lstat(work).st_uid != os.getuid():
                continue
            with suppress(NoRecorder):
                if os.path.ismount(_mountpoint(work)):
                    self._must(work, "umount", _mountpoint(work))
                shutil.rmtree(work, ignore_errors=True)

    @contextmanager
    def _mounted(self, work: str, trace: str) -> Iterator[str]:
        mountpoint = _mountpoint(work)
        for name in (mountpoint, _home(work)):
            os.mkdir(name, 0o700)
        options = ["--trace", trace, "--cache", os.path.join(work, "cache"), "--cache-limit", CACHE]
        self._must(work, "mount", self._store, mountpoint, *options)
        try:
            yield mountpoint
        finally:
            self._must(work, "umount", mountpoint)

    def _must(self, work: str, *arguments: str) -> None:
        """Runs one of our commands to its end. Raises NoRecorder with its reason."""
        try:
            done = subprocess.run(
                [*LAZYFS, *arguments], check=False, capture_output=True, text=True, errors="replace",
                stdin=subprocess.DEVNULL, env=_environment(work), cwd=work, timeout=MOUNT_SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise NoRecorder(f"lazyfs {arguments[0]} takes over {MOUNT_SECONDS:.0f} s") from None
        if done.returncode:
            raise NoRecorder(f"lazyfs {arguments[0]}: {printable(done.stderr) or done.returncode}")

    def _start(self, work: str, image: str, command: Sequence[str], number: int) -> None:
        """Starts a command and lets it run to its end, or to the end of its time. Raises RecordingFailed or
        NoRecorder."""
        result = os.path.join(work, f"result-{number}")
        argv = [*LAZYFS, "run", image, *self._options, "--result", result, "--", *command]
        with subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output,
            env=_environment(work), cwd=work, start_new_session=True,
        ) as process:  # fmt: skip
            _bound(process.pid, self._memory)
            try:
                ended = self._watch(process)
            finally:
                _end(process)
        if ended:
            _check(result, process.returncode)

    def _watch(self, process: subprocess.Popen[bytes]) -> bool:
        """Returns True when the command has ended, False when its time is over. Raises RecordingFailed if it
        takes too much memory."""
        end = time.monotonic() + self._seconds
        while time.monotonic() < end:
            with suppress(subprocess.TimeoutExpired):
                process.wait(LOOK)
                return True
            if _memory_of(process.pid) > self._memory:
                raise RecordingFailed(f"it takes over {shown_size(self._memory)} of memory")
        return False


def _mountpoint(work: str) -> str:
    return os.path.join(work, "mnt")


def _home(work: str) -> str:
    return os.path.join(work, "home")


def _environment(work: str) -> dict[str, str]:
    """Returns an environment with nothing of the service's but the folders of programs and sockets."""
    home = _home(work)
    sockets = os.environ.get("LAZYFS_RUNTIME_DIR")  # not below `work`: a socket's path has 107 bytes at most
    return ({"LAZYFS_RUNTIME_DIR": sockets} if sockets else {}) | {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "HOME": home,
        "TMPDIR": work,
        "XDG_CACHE_HOME": home,
        "XDG_CONFIG_HOME": home,
        "XDG_STATE_HOME": home,
    }


def _bound(pid: int, memory: int) -> None:
    """Bounds each process that the process will start. It may have ended already."""
    with suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_DATA, (memory, memory))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (memory, memory))
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        resource.prlimit(pid, resource.RLIMIT_NPROC, (PROCESSES, PROCESSES))


def _check(result: str, code: int) -> None:
    """Raises RecordingFailed if a command has failed, NoRecorder if nothing could start it."""
    try:
        with open(result, encoding="utf-8") as file:
            failed = json.load(file).get("failed")
    except (OSError, ValueError, AttributeError):
        failed = "lazyfs" if code else None
    if failed in ("runtime", "mount"):
        raise NoRecorder(f"the {failed} failed (exit code {code}): see lazyfs doctor")
    if failed:
        raise RecordingFailed(f"its command ended with exit code {code} (whose failure: {failed})")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a command and all its processes."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
    for pid in [*_below(process.pid), process.pid] if process.poll() is None else []:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _below(pid: int) -> list[int]:
    """Returns the processes that descend from a process."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError, IndexError, ValueError), open(f"/proc/{name}/stat", "rb") as file:
                above = int(file.read().rpartition(b")")[2].split()[1])
                children.setdefault(above, []).append(int(name))
    found = [pid]
    for one in found:
        found += children.get(one, ())
    return found[1:]


def _memory_of(pid: int) -> int:
    """Returns the bytes that the processes below one have for themselves, and those of their /tmp."""
    pages, devices = 0, {}
    for one in _below(pid):
        with suppress(OSError, IndexError, ValueError):
            with open(f"/proc/{one}/statm", "rb") as file:
                numbers = file.read().split()
            pages += max(int(numbers[1]) - int(numbers[2]), 0)
            if size := _scratch(one):
                devices[os.stat(f"/proc/{one}/root/tmp").st_dev] = size
    return pages * resource.getpagesize() + sum(devices.values())


def _scratch(pid: int) -> int:
    """Returns the bytes in a process's /tmp, if that is a memory filesystem of its own."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="replace") as file:
        own = any(line.split()[4] == "/tmp" and " - tmpfs " in line for line in file)  # noqa: S108
    path = f"/proc/{pid}/root/tmp"
    if not own or os.stat(path).st_dev == os.stat("/tmp").st_dev:  # noqa: S108
        return 0
    found = os.statvfs(path)
    return (found.f_blocks - found.f_bfree) * found.f_frsize
