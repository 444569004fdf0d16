"""Jobs in containers, from Python, after Ganga: `Apptainer("app:1").run(Job(File("run.sh")))`.

A job has a working directory of its own. Its executable and input files, if given as File, are copied there,
and its outputs are copied out. `run` may be called from any thread, so an asynchronous program calls it by
`asyncio.to_thread` or `trio.to_thread.run_sync`; each start is a process of its own.
"""

import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.container_options import parse_options

INSIDE = "/work_dir"
"""The working directory as the job sees it, as in Ganga."""
_MOUNTS: Mapping[str, str] = {"/cvmfs": "/cvmfs"}


class File(NamedTuple):
    """A file of this machine, given by its path."""

    path: str


@dataclass(frozen=True, slots=True)
class Job:
    """A program with its inputs and outputs."""

    executable: File | str
    """A file that is carried in, or the name or path of a program in the image."""
    arguments: Sequence[str] = ()
    inputs: Sequence[File] = ()
    outputs: Sequence[str] = ()
    """Names or patterns (`*.root`), below the working directory."""
    output_directory: str | None = None
    """The directory for outputs, `stdout` and `stderr`; None for a new temporary directory."""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobResult:
    """The end of a job."""

    exit_code: int
    failure: str | None
    """The part that failed: one of `result.FAILURES`; None for exit code 0."""
    error: str | None
    """The reason why the program was not started; None if it was."""
    runtime: str | None
    outputs: Mapping[str, str]
    """Name below the working directory -> path of the copy."""
    stdout: str
    """Path of the file with the program's output."""
    stderr: str
    seconds: Mapping[str, float]
    """Seconds of each part. `prepare`: the start's preparation; `run`: the program; `total`: both and the
    copies."""


class Virtualization:
    """A container for jobs. `Auto` takes the first runtime that works on this machine."""

    runtime: str | None = None

    def __init__(
        self,
        image: str | File,
        *,
        mounts: Mapping[str, str] = _MOUNTS,
        options: str | Sequence[str] = (),
        isolation: str | None = None,
        before: Callable[[Job], None] | None = None,
        after: Callable[[Job, JobResult], None] | None = None,
    ) -> None:
        """`image`: a name in a mounted repository, `docker://NAME`, a directory, or a SIF file as File.

        `mounts`: path on this machine -> path inside; a path of this machine that does not exist is left out
        with a warning in the job's stderr. `options`: as for singularity, see `container_options`. `before`,
        `after`: called on this machine, outside the container. Raises UsageError.
        """
        self.image = image
        self.mounts = dict(mounts)
        self.options = tuple(parse_options(options))
        self.isolation = isolation
        self._before = before
        self._after = after

    def run(self, job: Job) -> JobResult:
        """Runs the job to its end. Raises UsageError for a file of the job's that cannot be read."""
        begun = time.monotonic()
        if self._before is not None:
            self._before(job)
        results = job.output_directory or tempfile.mkdtemp(prefix="lazyfs-job-")
        os.makedirs(results, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="lazyfs-work-") as private:
            work = os.path.join(private, "work")
            os.mkdir(work)
            command = self.command(job, work, os.path.join(private, "result"))
            result = self._start(command, job, private, results, begun)
        if self._after is not None:
            self._after(job, result)
        return result

    def command(self, job: Job, work: str, result: str) -> list[str]:
        """Returns the command line of a job, and copies its files into the directory `work`. `result`: the
        file for the result. Values of variables are not in it."""
        for file in job.inputs:
            _copy(file, work)
        program = job.executable
        if isinstance(program, File):
            os.chmod(_copy(program, work), 0o755)  # noqa: S103 - the job's own, and a program
            program = f"{INSIDE}/{os.path.basename(program.path)}"
        image = os.path.abspath(self.image.path) if isinstance(self.image, File) else self.image
        options = ["--work", f"{work}:{INSIDE}", "--result", result]
        options += [word for pair in self.mounts.items() for word in ("--bind", ":".join(pair))]
        options += [word for name in job.environment for word in ("--env", name)]
        options += ["--runtime", self.runtime] if self.runtime else []
        options += ["--isolation", self.isolation] if self.isolation else []
        start = [sys.executable, "-m", "lazyfs", "run", image, *options, *self.options]
        return [*start, "--", program, *job.arguments]

    def _start(self, command: list[str], job: Job, private: str, results: str, begun: float) -> JobResult:
        streams = {name: os.path.join(results, name) for name in ("stdout", "stderr")}
        with open(streams["stdout"], "wb") as out, open(streams["stderr"], "wb") as err:
            environment = {**os.environ, **job.environment}
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, check=False
            )
        document = _read(os.path.join(private, "result"), done.returncode)
        outputs = _collect(os.path.join(private, "work"), job.outputs, results)
        seconds = {**document.get("seconds", {}), "total": round(time.monotonic() - begun, 3)}
        return JobResult(
            int(document["exit_code"]),
            document["failed"],
            document.get("error"),
            document.get("runtime"),
            outputs,
            streams["stdout"],
            streams["stderr"],
            seconds,
        )


class Auto(Virtualization):
    """The first runtime that works here."""


class Apptainer(Virtualization):
    """Apptainer, or Singularity under its old name."""

    runtime = "apptainer"


Singularity = Apptainer


class Podman(Virtualization):
    """podman."""

    runtime = "podman"


class Bubblewrap(Virtualization):
    """bubblewrap."""

    runtime = "bubblewrap"


def _copy(file: File, directory: str) -> str:
    """Copies a file into a directory; returns the copy's path. Raises UsageError."""
    try:
        return shutil.copy(file.path, directory)
    except OSError as error:
        raise UsageError(f"file of the job {file.path}: {error.strerror}") from None


def _read(path: str, code: int) -> dict[str, Any]:
    """Returns the result's document. If the start was killed before it wrote one, the failure is lazyfs's."""
    try:
        with open(path) as file:
            document: dict[str, Any] = json.load(file)
    except (OSError, ValueError):
        return {
            "exit_code": code if code >= 0 else 128 - code,
            "failed": "lazyfs",
            "error": "it wrote no result",
        }
    return document


def _collect(work: str, patterns: Sequence[str], results: str) -> dict[str, str]:
    """Copies the files and directories that match; returns name -> path of the copy. Links are copied as
    links, and none is followed: the program could have pointed one at any file of this machine."""
    found = {}
    top = os.path.realpath(work)
    for pattern in patterns:
        for name in sorted(glob.glob(pattern, root_dir=work, recursive=True)):
            source, target = os.path.join(work, name), os.path.join(results, name)
            parent = os.path.realpath(os.path.dirname(source))
            if parent != top and not parent.startswith(f"{top}/"):
                raise UsageError(f"output {name!a} leads out of the job's directory")
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if os.path.islink(source) or os.path.isfile(source):
                shutil.copy2(source, target, follow_symlinks=False)
            elif os.path.isdir(source):
                shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=_special)
            else:
                continue
            found[name] = target
    return found


def _special(directory: str, names: list[str]) -> list[str]:
    """Returns the names that are neither file, directory nor link: reading a pipe would wait for ever."""
    paths = {name: os.path.join(directory, name) for name in names}
    return [
        name
        for name, path in paths.items()
        if not (os.path.islink(path) or os.path.isfile(path) or os.path.isdir(path))
    ]
