"""Records starts of programs: mounts the store, runs the command in the image, unmounts.

The mount and the command are processes of their own, with an environment and a home without keys and
credentials. The command runs isolated, without network, and with limits on time and memory.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from lazyfs.core.byte_size import shown_size
from lazyfs.core.digest import sha256
from lazyfs.core.digits import natural
from lazyfs.core.errors import LazyfsError
from lazyfs.core.printable import printable
from lazyfs.core.trust.roles import ROOT, file_name
from lazyfs.store import ReadableStore
from lazyfs.sync.starts import NoRecorder
from lazyfs.system.own_python import LAZYFS
from lazyfs.system.process_tree import descendants

ALONE = ("--network", "none")
"""Options of `lazyfs run` for programs that are not trusted."""
MOUNT_SECONDS = 60.0
"""Timeout in seconds for mounting, and for unmounting."""
END_SECONDS = 5.0
"""Grace period in seconds between SIGTERM and SIGKILL."""
LOOK = 0.1
"""Seconds between two checks of a command's memory."""
CACHE = "4G"
"""Size limit of the cache of the mount, which serves one image."""
PROCESSES = 4096
PREFIX = "lazyfs-start-"
"""Prefix of the names of temporary folders; the id of the process that made the folder follows."""


class RecordingFailed(LazyfsError):
    """A command failed, or exceeded its limit of memory."""


class StartRecorder:
    """Records starts of programs in images of one store."""

    def __init__(
        self,
        store: str,
        seconds: float,
        memory: int,
        *,
        trust: str = "",
        options: Sequence[str] = ALONE,
        output: int = subprocess.DEVNULL,
    ) -> None:
        """`store`: the directory or URL that is mounted. `trust`: the fingerprint of the repository at a URL.

        `seconds`: a command is ended after this time, and what it has read by then counts as its start.
        `memory`: the largest number of bytes that its processes and its /tmp may take together. `options`:
        options of `lazyfs run` for each start. `output`: the descriptor for stdout and stderr of the
        commands."""
        self._store = store
        self._trust = trust
        self._options = options
        self._output = output
        self._seconds = seconds
        self._memory = memory
        self._work: list[str] = []

    def close(self) -> None:
        """Deletes the traces that were recorded."""
        for directory in self._work:
            shutil.rmtree(directory, ignore_errors=True)
        self._work.clear()

    def record(self, place: str, commands: Sequence[Sequence[str]]) -> list[str]:
        if not os.path.exists("/dev/fuse"):
            raise NoRecorder("this machine has no /dev/fuse")
        if "://" in self._store and not self._trust:
            raise NoRecorder(
                f"{self._store} cannot be mounted: name the URL at which it is served, with `url` in "
                "[profiles] or `lazyfs profile record --url`"
            )
        self._clear()
        work = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-")
        self._work.append(work)
        trace = os.path.join(work, "trace")
        with self._mounted(work, trace) as mountpoint:
            for number, command in enumerate(commands):
                self._start(work, os.path.join(mountpoint, place), command, number)
        return [trace]

    def _clear(self) -> None:
        """Unmounts and deletes the temporary folders of runs that were killed."""
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
        options += ["--trust", self._trust] if self._trust else []
        self._must(work, "mount", self._store, mountpoint, *options)
        try:
            yield mountpoint
        finally:
            self._must(work, "umount", mountpoint)

    def _must(self, work: str, *arguments: str) -> None:
        """Runs a lazyfs command to its end, in the folder `work`. Raises NoRecorder, with the reason, if it
        fails."""
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
        """Runs a command until it ends or its time is up. `work`: the folder for the files of the starts.
        `number`: the number of this start, for the name of its file there. Raises RecordingFailed or
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
        """Waits for the command; returns True if it has ended, False if its time is up. Raises
        RecordingFailed if it exceeds its limit of memory."""
        end = time.monotonic() + self._seconds
        while time.monotonic() < end:
            with suppress(subprocess.TimeoutExpired):
                process.wait(LOOK)
                return True
            if _memory_of(process.pid) > self._memory:
                raise RecordingFailed(f"it takes over {shown_size(self._memory)} of memory")
        return False


def source_to_mount(location: str, store: ReadableStore, url: str) -> tuple[str, str]:
    """Returns the source that a StartRecorder mounts for the store at a location, and the fingerprint to
    trust. The source is `url`, at which the store is served, with the store's own fingerprint; without a URL,
    it is the location itself."""
    root = store.read_metadata(file_name(ROOT, 1)) if url else None
    return (url, sha256(root).hex()) if root else (location, "")


def _mountpoint(work: str) -> str:
    return os.path.join(work, "mnt")


def _home(work: str) -> str:
    return os.path.join(work, "home")


def _environment(work: str) -> dict[str, str]:
    """Returns an environment for commands, with home and caches in the folder `work`. Of the service's own
    environment it has only the paths of programs and sockets."""
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
    """Sets rlimits of a process, which its children inherit: for memory, the size of files and the number of
    processes. Does nothing if the process has already ended."""
    with suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_DATA, (memory, memory))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (memory, memory))
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        resource.prlimit(pid, resource.RLIMIT_NPROC, (PROCESSES, PROCESSES))


def _check(result: str, code: int) -> None:
    """Raises RecordingFailed if the command failed, NoRecorder if the runtime or the mount did. `result`: the
    path of the file that `lazyfs run --result` has written. `code`: the exit code of `lazyfs run`."""
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
    """Ends a command and all its processes: SIGTERM to the command, and after END_SECONDS SIGKILL to all of
    them."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
    for pid in [*descendants(process.pid), process.pid] if process.poll() is None else []:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _memory_of(pid: int) -> int:
    """Returns the bytes of memory that the descendants of a process use, without shared memory but with their
    /tmp."""
    pages, devices = 0, {}
    for one in descendants(pid):
        with suppress(OSError, IndexError, ValueError):
            with open(f"/proc/{one}/statm", "rb") as file:
                numbers = file.read().split()
            pages += max(int(numbers[1]) - int(numbers[2]), 0)
            if size := _scratch(one):
                devices[os.stat(f"/proc/{one}/root/tmp").st_dev] = size
    return pages * resource.getpagesize() + sum(devices.values())


def _scratch(pid: int) -> int:
    """Returns the bytes in a process's /tmp if that is a tmpfs other than this process's /tmp; otherwise
    0."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="replace") as file:
        own = any(line.split()[4] == "/tmp" and " - tmpfs " in line for line in file)  # noqa: S108
    path = f"/proc/{pid}/root/tmp"
    if not own or os.stat(path).st_dev == os.stat("/tmp").st_dev:  # noqa: S108
        return 0
    found = os.statvfs(path)
    return (found.f_blocks - found.f_bfree) * found.f_frsize
