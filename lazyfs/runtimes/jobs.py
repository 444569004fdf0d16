"""Jobs in containers, from Python: `Apptainer("app:1").run(Job(File("run.sh")))`. The interface is modelled
on that of Ganga.

A job has a working directory of its own. Its executable and input files are copied into it if they are given
as File or path; its outputs are copied out of it. `run` may be called from any thread; `run_async` is for
trio. Each start is a process of its own.
"""

import os
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, Final, NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.runtimes import handed_variables
from lazyfs.runtimes.container_options import parse_options
from lazyfs.runtimes.job_directories import PrivateDirectory, new_file, output_directory, refused
from lazyfs.runtimes.job_files import File as File
from lazyfs.runtimes.job_files import Link as Link
from lazyfs.runtimes.job_files import carry_in, given_file, image_path, read_result, write_account
from lazyfs.runtimes.job_outputs import carry_out, check_patterns
from lazyfs.runtimes.protocol import nul_separated
from lazyfs.runtimes.supervise import unnamed_file
from lazyfs.system.own_python import LAZYFS

INSIDE: Final = "/work_dir"
"""The working directory as the job sees it, as in Ganga."""
_MOUNTS: Final[Mapping[str, str]] = {"/cvmfs": "/cvmfs"}
GRACE_SECONDS: Final = 10.0
"""Seconds that a cancelled job has between SIGTERM and SIGKILL."""
STREAMS: Final = ("stdout", "stderr")
"""The names of the files with the program's output."""
_NAMED: Final = 3
"""The largest number of outputs that an error names."""


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
    reserved: Collection[str] = ()
    """Names in the output directory, beside STREAMS, that no output may take."""


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
    uncopied: Mapping[str, str] = field(default_factory=dict)
    """Name below the working directory, or pattern -> the reason why it was not copied, in words that follow
    the name."""
    kept: str | None = None
    """The working directory, which is kept if an output was not copied."""


class OutputsNotCopied(UsageError):
    """A job has ended, but not all its outputs could be copied."""

    def __init__(self, result: JobResult) -> None:
        named = [f"output {name!a} {reason}" for name, reason in list(result.uncopied.items())[:_NAMED]]
        more = len(result.uncopied) - len(named)
        listed = "; ".join([*named, *([f"{more} more"] if more else [])])
        super().__init__(f"{listed}; the job's files are kept in {result.kept}")
        self.result = result


class _Start(NamedTuple):
    """A job whose files have been copied, ready to be started."""

    command: list[str]
    environment: dict[str, str]
    """The environment of lazyfs itself."""
    variables: int
    """The descriptor that has the job's variables."""
    private: PrivateDirectory
    results: str
    begun: float
    stdout: IO[bytes]
    stderr: IO[bytes]

    @property
    def surroundings(self) -> dict[str, Any]:
        """The arguments for subprocess and trio that say in which surroundings the command runs."""
        return {
            "stdin": subprocess.DEVNULL,
            "stdout": self.stdout,
            "stderr": self.stderr,
            "env": self.environment,
            "pass_fds": [self.variables],
        }

    def result(self, job: Job, code: int) -> JobResult:
        """Copies the outputs out, and returns the job's result. `code`: the exit code of `lazyfs run` in the
        form of Popen.returncode."""
        document = read_result(os.path.join(self.private.path, "result"), code)
        outputs = carry_out(self.private.work, job.outputs, self.results, {*STREAMS, *job.reserved})
        kept = self.private.keep() if outputs.uncopied else None
        seconds = {**document.get("seconds", {}), "total": round(time.monotonic() - self.begun, 3)}
        return JobResult(
            int(document["exit_code"]),
            document["failed"],
            document.get("error"),
            document.get("runtime"),
            outputs.copied,
            self.stdout.name,
            self.stderr.name,
            seconds,
            outputs.uncopied,
            kept,
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

        `mounts`: path on this machine -> path inside, which `:ro` may follow; a mount is left out, with a
        warning in the job's stderr, if its path on this machine does not exist. `options`: options in the
        notation of singularity, which `container_options` translates. `isolation`: one of `isolation.LEVELS`;
        None for the level in the computing site's settings. `tokenuser`, `tokenpassword`: the account for a
        private image; it is passed on in a file that only this user can read. `before`, `after`: called
        before and after each job, on this machine, outside the container; `after` is called for failed jobs
        too. Raises UsageError.
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
        """Runs the job to its end. Raises UsageError for a job that cannot be started, such as one with a
        file that cannot be read; OutputsNotCopied, which has the result."""
        with self._start(job) as start:
            with refused("lazyfs run"):
                done = subprocess.run(start.command, check=False, **start.surroundings)
            result = start.result(job, done.returncode)
        return self._ended(job, result)

    async def run_async(self, job: Job) -> JobResult:
        """Runs the job to its end, under trio. If the task is cancelled, the job gets SIGTERM, and SIGKILL
        after GRACE_SECONDS. Raises UsageError as `run` does."""
        import trio

        with self._start(job) as start:
            with refused("lazyfs run"):
                process = await trio.lowlevel.open_process(start.command, **start.surroundings)
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
        program = job.executable
        given = [given_file(file) for file in job.inputs]
        own = None if isinstance(program, str) else given_file(program)
        carried = {file: carry_in(file, work) for file in dict.fromkeys([*given, *([own] if own else [])])}
        if own is not None:
            os.chmod(carried[own], 0o755)  # noqa: S103 - the job's own, and a program
            program = f"{INSIDE}/{os.path.basename(carried[own])}"
        options = ["--work", f"{work}:{INSIDE}", "--result", result]
        options += [word for pair in self.mounts.items() for word in ("--bind", ":".join(pair))]
        options += [] if variables is None else ["--env-fd", str(variables)]
        options += ["--runtime", ",".join(self.runtimes)] if self.runtimes else []
        options += ["--isolation", self.isolation] if self.isolation else []
        start = [*LAZYFS, "run", image_path(self.image), *options, *self.options]
        return [*start, "--", str(program), *job.arguments]

    def settings(self) -> dict[str, str]:
        """Returns environment variables for the runtime; the program does not get them."""
        return {}

    @contextmanager
    def _start(self, job: Job) -> Iterator[_Start]:
        """Puts the job's files in place for the block; removes the working directory after it."""
        if (self.tokenuser is None) != (self.tokenpassword is None):
            raise UsageError("a token has a user and a password: give tokenuser and tokenpassword")
        check_patterns(job.outputs)
        given = handed_variables.encode(job.environment)
        begun = time.monotonic()
        if self._before is not None:
            self._before(job)
        environment = {**os.environ, **self.settings()}
        with ExitStack() as stack:
            private = stack.enter_context(closing(PrivateDirectory()))
            variables = stack.enter_context(unnamed_file(given))
            command = self.command(job, private.work, os.path.join(private.path, "result"), variables)
            nul_separated(command)  # none of its arguments is impossible
            if self.tokenuser is not None and self.tokenpassword is not None:
                account = os.path.join(private.path, "account")
                write_account(account, image_path(self.image), self.tokenuser, self.tokenpassword)
                environment["REGISTRY_AUTH_FILE"] = account
            results = output_directory(job.output_directory)
            out, err = (stack.enter_context(new_file(results, name)) for name in STREAMS)
            yield _Start(command, environment, variables, private, results, begun, out, err)

    def _ended(self, job: Job, result: JobResult) -> JobResult:
        """Returns the result. Raises OutputsNotCopied."""
        if self._after is not None:
            self._after(job, result)
        if result.uncopied:
            raise OutputsNotCopied(result)
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
