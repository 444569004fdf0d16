"""`lazyfs prun`: a job in the notation of PanDA's prun, run on this machine or prepared for a batch
system."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click

from lazyfs.cli.say import say
from lazyfs.core.errors import UsageError
from lazyfs.runtimes.grid_job import GridJob
from lazyfs.runtimes.job_directories import PrivateDirectory, refused
from lazyfs.runtimes.job_outputs import check_patterns
from lazyfs.runtimes.jobs import Auto, File, Job, JobResult, Link, OutputsNotCopied
from lazyfs.runtimes.result_file import ResultFile

_RESULT = "result.json"

_OF_THE_GRID = {
    "--site": True,
    "--excludedSite": True,
    "--tmpDir": True,
    "--maxAttempt": True,
    "--nGBPerJob": True,
    "--voms": True,
    "--disableAutoRetry": False,
    "--noBuild": False,
    "--noEmail": False,
    "--forceStaged": False,
    "--official": False,
}
"""The options of PanDA's prun that concern only the grid, each with True if it takes a value."""


def _with_options_of_the_grid(command: Callable[..., Any]) -> Callable[..., Any]:
    for name, valued in _OF_THE_GRID.items():
        command = click.option(name, name.strip("-").lower(), hidden=True, is_flag=not valued)(command)
    return command


@click.command()
@click.option("--containerImage", "image", required=True, help="docker://NAME, a directory, or a SIF file.")
@click.option("--exec", "program", required=True, metavar="COMMAND", help="What the image's shell runs.")
@click.option("--outDS", "name", metavar="NAME", help="The directory for outputs, stdout, stderr and result.")
@click.option("--outputs", metavar="A,B,...", help="Files that come out, also patterns.")
@click.option("--inDS", "dataset", metavar="NAME", help="Directory with input files; %IN in COMMAND.")
@click.option("--nFiles", "most", type=click.IntRange(1), help="Take so many of the input files only.")
@click.option("--writeInputToTxt", "listed", metavar="IN:FILE", help="Write the input files' names to FILE.")
@click.option("--useSandbox", "sandbox", is_flag=True, help="Carry in the working directory's files.")
@click.option("--extFile", "external", metavar="A,B,...", help="Large files to carry in all the same.")
@click.option("--containerX509", "x509", is_flag=True, help="Hand the grid proxy to the program.")
@click.option("--nCore", "cores", type=click.IntRange(1), default=1, help="Cores, for a batch system.")
@click.option("--memory", type=click.IntRange(1), metavar="MB", help="Memory, for a batch system.")
@click.option("--maxWalltime", "hours", type=click.IntRange(1), metavar="HOURS", help="For a batch system.")
@click.option(
    "--submit",
    type=click.Choice(["htcondor", "slurm"]),
    help="Write a submit file into the directory of --outDS, and run nothing.",
)
@_with_options_of_the_grid
def command(
    name: str | None,
    submit: str | None,
    image: str,
    program: str,
    **options: Any,
) -> int:
    """Run a job as PanDA's prun describes it: here, or by a batch system.

    The command runs in an empty working directory, with the files of --useSandbox and links to those of
    --inDS. Options of prun that concern the grid alone (--site, --noBuild, ...) are passed over.

    \b
    Example:
      lazyfs prun --containerImage docker://alpine --exec "echo 'Hello World!'" --outDS user.me.test
    """
    passed = [flag for flag in _OF_THE_GRID if options.pop(flag.strip("-").lower())]
    if passed:
        say(f"lazyfs: passed over, since they concern the grid: {', '.join(passed)}", err=True)
    if submit is not None and name is None:
        raise UsageError("--submit writes files: give their directory with --outDS")
    if options["outputs"] and name is None:
        raise UsageError("--outputs come out into a directory: give it with --outDS")
    check_patterns(_names(options["outputs"]))
    directory = None if name is None else _new_directory(name)
    job = _job(image, program, name, directory, **options)
    lists = _input_list(options["listed"], job)
    job = job._replace(inputs=tuple(path for path in job.inputs if not _is_listed(path, lists)))
    if submit is not None:
        return _write(submit, job, lists)
    return _run(job, directory, lists)


def _new_directory(name: str) -> str:
    """Returns the path of the output directory. Raises UsageError unless it is new or empty."""
    path = os.path.abspath(name)
    with refused(f"--outDS {name}"):
        if os.path.lexists(path) and not (os.path.isdir(path) and not os.listdir(path)):
            raise UsageError(f"--outDS {name}: {path} exists already; take another name")
    return path


def _job(
    image: str,
    program: str,
    name: str | None,
    directory: str | None,
    *,
    outputs: str | None,
    dataset: str | None,
    most: int | None,
    sandbox: bool,
    external: str | None,
    x509: bool,
    cores: int,
    memory: int | None,
    hours: int | None,
    **_: Any,
) -> GridJob:
    from lazyfs.runtimes.grid_job import dataset_files, sandbox_files, with_inputs
    from lazyfs.runtimes.grid_proxy import find_proxy

    files = () if dataset is None else dataset_files(dataset, most)
    sent: tuple[str, ...] = ()
    if sandbox or external:
        patterns = _names(external)
        sent, large = sandbox_files(os.getcwd(), directory or "", patterns, only_named=not sandbox)
        if large:
            say(f"lazyfs: not carried in, since large (--extFile does): {', '.join(large)}", err=True)
    proxy = find_proxy(os.environ, os.getuid(), datetime.now(UTC)) if x509 else None
    return GridJob(
        image,
        with_inputs(program, files),
        os.path.basename(directory or "prun") if name else "prun",
        directory or "",
        sent,
        files,
        _names(outputs),
        proxy,
        cores,
        memory,
        None if hours is None else hours * 60,
    )


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(filter(None, (text or "").split(",")))


def _input_list(option: str | None, job: GridJob) -> dict[str, str]:
    """Returns the file that --writeInputToTxt asks for, as {its name: its content}; the content is the names
    of the input files. Empty without the option. Raises UsageError."""
    from lazyfs.runtimes.grid_job import input_list

    if option is None:
        return {}
    if not job.dataset:
        raise UsageError("--writeInputToTxt lists the files of --inDS: give it")
    names = [os.path.basename(path) for path in job.dataset]
    file = input_list(option)
    if file in names:
        raise UsageError(f"--writeInputToTxt {option}: --inDS has a file of this name; choose another")
    return {file: ",".join(names) + "\n"}


def _is_listed(path: str, lists: dict[str, str]) -> bool:
    """Returns True for a file of the caller's in whose place a new list is carried in."""
    return os.path.basename(path) in lists and os.path.isfile(path)


def _run(job: GridJob, directory: str | None, lists: dict[str, str]) -> int:
    """Runs the job on this machine and prints its output; keeps its results in `directory`, unless that is
    None. Returns the exit code: the job's, but that of an error instead of 0 if results were not kept."""
    kept = None if directory is None else _result_file(directory)
    with closing(PrivateDirectory()) as private:
        listed = [os.path.join(private.work, name) for name in lists]
        for path, content in zip(listed, lists.values(), strict=True):
            with refused(f"--writeInputToTxt: {path}"), open(path, "w") as file:
                file.write(content)
        inputs = [File(path) for path in (*job.inputs, *listed)]
        links = [Link(os.path.basename(path), job.inside(path)) for path in job.dataset]
        container = Auto(job.image, mounts=dict(bind.split(":", 1) for bind in job.binds))
        program = Job(
            "/bin/sh",
            ["-c", job.command],
            [*inputs, *links],
            job.outputs,
            directory or os.path.join(private.path, "results"),
            job.environment,
            [_RESULT],
        )
        problems: list[UsageError] = []
        try:
            result = container.run(program)
        except OutputsNotCopied as error:
            problems.append(error)
            result = error.result
        if kept is not None:
            try:
                kept.write(json.dumps(asdict(result), indent=1))
            except UsageError as error:
                problems.append(error)
        _show(result)
    for problem in problems:
        say(f"lazyfs: {problem}", err=True)
    return result.exit_code or (problems[0].exit_code if problems else 0)


def _result_file(directory: str) -> ResultFile:
    """Makes the directory, and returns the file for the result in it. Raises UsageError if that file cannot
    be written."""
    with refused(f"--outDS {directory}"):
        os.makedirs(directory, exist_ok=True)
    return ResultFile(os.path.join(directory, _RESULT), f"--outDS {directory}")


def _show(result: JobResult) -> None:
    for path, stream in ((result.stdout, sys.stdout), (result.stderr, sys.stderr)):
        stream.flush()
        with open(path, "rb") as file:
            shutil.copyfileobj(file, stream.buffer)
        stream.flush()


def _write(system: str, job: GridJob, lists: dict[str, str]) -> int:
    """Writes the job's directory with its submit file, and prints the command that submits it. Returns the
    exit code."""
    from lazyfs.runtimes.submit_files import write_htcondor, write_slurm

    made = (write_htcondor if system == "htcondor" else write_slurm)(job, lists)
    for note in made.notes:
        say(f"lazyfs: {note}", err=True)
    say(made.submit_with)
    return 0
