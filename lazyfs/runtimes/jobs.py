"""Jobs in containers, from Python: `Apptainer("app:1").run(Job(File("run.sh")))`. The interface is modelled
on that of Ganga.

A job has a working directory of its own. Its executable and input files are copied into it if they are given
as File or path; its outputs are copied out of it. `run` may be called from any thread; `run_async` is for
trio. Each start is a process of its own.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Final, NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.runtimes import handed_variables
from lazyfs.runtimes.container_options import parse_options
from lazyfs.runtimes.job_files import File as File
from lazyfs.runtimes.job_files import Link as Link
from lazyfs.runtimes.job_files import carry_in, carry_out, image_path, read_result, write_account
from lazyfs.runtimes.supervise import unnamed_file
from lazyfs.system.own_python import LAZYFS

INSIDE: Final = "/work_dir"
"""The working directory as the job sees it, as in Ganga."""
_MOUNTS: Final[Mapping[str, str]] = {"/cvmfs": "/cvmfs"}
GRACE_SECONDS: Final = 10.0
"""Seconds that a cancelled job has between SIGTERM and SIGKILL."""


@dataclass(frozen=True, slots=True)
class Job:
    """A program with its inputs and outputs."""

    executable: File | os.PathLike[str] | str
    """The program: a file to be copied into the working directory, or, as str, a name or path in the
    image."""
    arguments: Sequence[str] = ()
    inputs: Sequence[File | Link | os.PathLike[str]] = ()
    outputs: Sequence[str] = ()
    """Names or patterns (`*.root`) of output files, below the working directory."""
    output_directory: str | None = None
    """The directory that gets the outputs, `stdout` and `stderr`; None for a new temporary directory."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of the program. They are in no command line, and not in the environment of lazyfs itself."""


@dataclass(frozen=True, slots=True)
class JobResult:
    """The exit of a job, and the paths of its results."""

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
    """The seconds that each part took. `prepare`: preparing the start; `run`: the program; `total`: both and
    copying the files."""


class _Start(NamedTuple):
    """A job whose files have been copied, ready to be started."""

    command: list[str]
    environment: dict[str, str]
    """The environment of lazyfs itself."""
    variables: int
    """The descriptor that has the job's variables."""
    private: str
    results: str
    begun: float
    stdout: IO[bytes]
    stderr: IO[bytes]

    def result(self, job: Job, code: int) -> JobResult:
        """Copies the outputs out, and returns the job's result. `code`: the exit code of `lazyfs run` in the
        form of Popen.returncode."""
        document = read_result(os.path.join(self.private, "result"), code)
        outputs = carry_out(os.path.join(self.private, "work"), job.outputs, self.results)
        seconds = {**document.get("seconds", {}), "total": round(time.monotonic() - self.begun, 3)}
        return JobResult(
            int(document["exit_code"]),
            document["failed"],
            document.get("error"),
            document.get("runtime"),
            outputs,
            self.stdout.name,
            self.stderr.name,
            seconds,
        )


class Virtualization:
    """Runs jobs in containers that are made from one image. Each subclass names the runtimes that it uses;
    `Auto` uses the first runtime that works on this machine."""

    runtimes: Sequence[str] = ()
    """The runtimes to try; the first that works is taken. If empty, all those in the computing site's
    settings are tried in their order there."""

    def __init__(
        self,
        image: str | File | os.PathLike[str] | IO[bytes],
        *,
        mounts: Mapping[str, str] = _MOUNTS,
        options: str | Sequence[str] = (),
        isolation: str | None = None,
        tokenuser: str | None = None,
        tokenpassword: str | None = None,
        before: Callable[[Job], None] | None = None,
        after: Callable[[Job, JobResult], None] | None = None,
    ) -> None:
        """`image`: a text, which is a name in a mounted repository, `docker://NAME` or a directory; or a SIF
        file, given as File, path or open file.

        `mounts`: path on this machine -> path inside; a mount is left out, with a warning in the job's
        stderr, if its path on this machine does not exist. `options`: options in the notation of singularity,
        which `container_options` translates. `isolation`: one of `isolation.LEVELS`; None for the level in
        the computing site's settings. `tokenuser`, `tokenpassword`: the account for a private image; it is
        passed on in a file that only this user can read. `before`, `after`: called before and after each job,
        on this machine, outside the container; `after` is called for failed jobs too. Raises UsageError.
        """
        self.image = image
        self.mounts = dict(mounts)
        self.options = tuple(parse_options(options))
        self.isolation = isolation
        self.tokenuser = tokenuser
        self.tokenpassword = tokenpassword
        self._before = before
        self._after = after

    def run(self, job: Job) -> JobResult:
        """Runs the job to its end. Raises UsageError for a file of the job that cannot be read."""
        with self._start(job) as start:
            done = subprocess.run(
                start.command,
                stdin=subprocess.DEVNULL,
                stdout=start.stdout,
                stderr=start.stderr,
                env=start.environment,
                pass_fds=[start.variables],
                check=False,
            )
            result = start.result(job, done.returncode)
        return self._ended(job, result)

    async def run_async(self, job: Job) -> JobResult:
        """Runs the job to its end, under trio. If the task is cancelled, the job gets SIGTERM, and SIGKILL
        after GRACE_SECONDS. Raises UsageError."""
        import trio

        with self._start(job) as start:
            process = await trio.lowlevel.open_process(
                start.command,
                stdin=subprocess.DEVNULL,
                stdout=start.stdout,
                stderr=start.stderr,
                env=start.environment,
                pass_fds=[start.variables],
            )
            try:
                await process.wait()
            except trio.Cancelled:
                process.terminate()
                with trio.move_on_after(GRACE_SECONDS, shield=True):
                    await process.wait()
                if process.returncode is None:
                    process.kill()
                    with trio.CancelScope(shield=True):
                        await process.wait()
                raise
            assert process.returncode is not None
            result = start.result(job, process.returncode)
        return self._ended(job, result)

    def command(self, job: Job, work: str, result: str, variables: int | None = None) -> list[str]:
        """Copies the job's files into the directory `work`, and returns the command line of the job.
        `result`: the path for --result. `variables`: the descriptor that has the job's variables. The command
        line holds neither tokens nor values of these variables."""
        for file in job.inputs:
            carry_in(file, work)
        program = job.executable
        if not isinstance(program, str):
            carried = carry_in(program, work)
            os.chmod(carried, 0o755)  # noqa: S103 - the job's own, and a program
            program = f"{INSIDE}/{os.path.basename(carried)}"
        options = ["--work", f"{work}:{INSIDE}", "--result", result]
        options += [word for pair in self.mounts.items() for word in ("--bind", ":".join(pair))]
        options += [] if variables is None else ["--env-fd", str(variables)]
        options += ["--runtime", ",".join(self.runtimes)] if self.runtimes else []
        options += ["--isolation", self.isolation] if self.isolation else []
        start = [*LAZYFS, "run", image_path(self.image), *options, *self.options]
        return [*start, "--", program, *job.arguments]

    def settings(self) -> dict[str, str]:
        """Returns environment variables for the runtime; the program does not get them."""
        return {}

    @contextmanager
    def _start(self, job: Job) -> Iterator[_Start]:
        """Puts the job's files in place for the block; removes the working directory after it."""
        if (self.tokenuser is None) != (self.tokenpassword is None):
            raise UsageError("a token has a user and a password: give tokenuser and tokenpassword")
        given = handed_variables.encode(job.environment)
        begun = time.monotonic()
        if self._before is not None:
            self._before(job)
        results = os.path.abspath(job.output_directory or tempfile.mkdtemp(prefix="lazyfs-job-"))
        os.makedirs(results, exist_ok=True)
        environment = {**os.environ, **self.settings()}
        with tempfile.TemporaryDirectory(prefix="lazyfs-work-") as private, unnamed_file(given) as variables:
            work = os.path.join(private, "work")
            os.mkdir(work)
            command = self.command(job, work, os.path.join(private, "result"), variables)
            if self.tokenuser is not None and self.tokenpassword is not None:
                account = os.path.join(private, "account")
                write_account(account, image_path(self.image), self.tokenuser, self.tokenpassword)
                environment["REGISTRY_AUTH_FILE"] = account
            paths = [os.path.join(results, name) for name in ("stdout", "stderr")]
            with open(paths[0], "wb") as out, open(paths[1], "wb") as err:
                yield _Start(command, environment, variables, private, results, begun, out, err)

    def _ended(self, job: Job, result: JobResult) -> JobResult:
        if self._after is not None:
            self._after(job, result)
        return result


class Auto(Virtualization):
    """Runs jobs with the first runtime that works here."""


class Apptainer(Virtualization):
    """Runs jobs with apptainer, or with singularity, its old name."""

    runtimes = ("apptainer",)


Singularity = Apptainer


class Podman(Virtualization):
    """Runs jobs with podman."""

    runtimes = ("podman",)


class Bubblewrap(Virtualization):
    """Runs jobs with bubblewrap."""

    runtimes = ("bubblewrap",)


class Docker(Virtualization):
    """Runs jobs with docker if the user may use it here, otherwise with udocker."""

    runtimes = ("docker", "udocker")
    mode: str | None = None
    """udocker's execution mode: P1, F1, R1, ...; None for its own choice."""

    def settings(self) -> dict[str, str]:
        return {} if self.mode is None else {"UDOCKER_DEFAULT_EXECUTION_MODE": self.mode}
