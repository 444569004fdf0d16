"""Submit files of batch systems for a job: HTCondor's container universe, and a script for Slurm."""

import os
import re
import shlex
from collections.abc import Mapping
from typing import NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.find_image import find, node_mounts
from lazyfs.runtimes.grid_job import GridJob
from lazyfs.runtimes.image_reference import looked_up
from lazyfs.runtimes.job_files import File, Link, carry_in
from lazyfs.runtimes.jobs import INSIDE

SCRIPT = "exec.sh"
_CONDOR_FILE, _SLURM_FILE = "job.sub", "job.sh"
_OWN_FILES = frozenset({SCRIPT, _CONDOR_FILE, "stdout", "stderr", "log"})
"""Names in a job's directory for HTCondor."""
_UNQUOTABLE = re.compile(r"[\x00-\x1f\x7f,;\"'`\\$%#=]|^\s|\s$")
"""Characters that have a meaning of their own in a submit file, and cannot be quoted everywhere in it."""


class Written(NamedTuple):
    """The result of writing a job's directory and its submit file."""

    submit_with: str
    """The command that submits the job."""
    notes: tuple[str, ...]


def write_htcondor(job: GridJob, lists: Mapping[str, str]) -> Written:
    """Writes the job's directory for HTCondor. `lists`: name -> content of further input files. Raises
    UsageError."""
    for name in _OWN_FILES.intersection(lists):
        raise UsageError(f"--writeInputToTxt IN:{name}: the job's directory has a file of this name")
    job, notes = _with_found_image(job)
    job = job._replace(inputs=(*job.inputs, *(os.path.join(job.directory, name) for name in lists)))
    description = htcondor(job)
    _make(job.directory, {SCRIPT: f"#!/bin/sh\n{job.command}\n", **lists, _CONDOR_FILE: description})
    os.chmod(os.path.join(job.directory, SCRIPT), 0o755)  # noqa: S103 - a program
    return Written(shlex.join(["condor_submit", os.path.join(job.directory, _CONDOR_FILE)]), notes)


def write_slurm(job: GridJob, lists: Mapping[str, str]) -> Written:
    """Writes the job's directory for Slurm, including the job's working directory. `lists`: name -> content
    of further input files. Raises UsageError."""
    job, notes = _with_found_image(job)
    work = os.path.join(job.directory, "work")
    description = slurm(job, work)
    _make(job.directory, {_SLURM_FILE: description})
    _make(work, lists)
    for path in job.inputs:
        carry_in(File(path), work)
    for path in job.dataset:
        carry_in(Link(os.path.basename(path), job.inside(path)), work)
    return Written(shlex.join(["sbatch", os.path.join(job.directory, _SLURM_FILE)]), notes)


def _with_found_image(job: GridJob) -> tuple[GridJob, tuple[str, ...]]:
    """Returns the job, and warnings. The job's image is replaced by its path in a mounted tree, links
    resolved: so a job that waits keeps its image when a tag moves. A `docker://` image that no mounted tree
    has stays unchanged, and so does a path that exists only on the batch system's nodes."""
    name = looked_up(job.image)
    if name is None:  # https://..., which no tree has
        return job, ()
    try:
        return job._replace(image=find(name, node_mounts()).root), ()
    except UsageError as error:
        if not job.image.startswith(("docker://", "/")):
            raise
        return job, (f"{error}; the nodes are told {job.image} as it is",)


def _make(directory: str, files: Mapping[str, str]) -> None:
    """Makes a directory with `files`: name -> content. Raises UsageError."""
    try:
        os.makedirs(directory, exist_ok=True)
        for name, content in files.items():
            with open(os.path.join(directory, name), "w") as file:
                file.write(content)
    except OSError as error:
        raise UsageError(f"--outDS {directory}: {error.strerror}") from None


def htcondor(job: GridJob) -> str:
    """Returns the text of a submit file. Raises UsageError for a path that cannot be written into one.

    HTCondor 23 starts a container from a directory or SIF file of a shared filesystem without copying it, and
    pulls an image that begins with docker://. The dataset's files are sent along, since a job cannot choose
    its binds.
    """
    sent = [*job.inputs, *job.dataset]
    lines = {
        "universe": "container",
        "container_image": _plain(job.image, "image"),
        "transfer_container": None if job.image.startswith("docker://") else "false",
        "JobBatchName": _plain(job.name, "--outDS"),
        "initialdir": _plain(job.directory, "--outDS"),
        "executable": os.path.join(job.directory, SCRIPT),  # initialdir does not count for it
        "transfer_input_files": ",".join(_plain(path, "file") for path in sent) or None,
        "should_transfer_files": "YES",
        "when_to_transfer_output": "ON_EXIT",
        "transfer_output_files": _outputs(job),
        "output": "stdout",
        "error": "stderr",
        "log": "log",
        "x509userproxy": None if job.proxy is None else _plain(job.proxy.path, "grid proxy"),
        "request_cpus": str(job.cores),
        "request_memory": None if job.memory is None else f"{job.memory} MB",
        "allowed_execute_duration": None if job.minutes is None else str(job.minutes * 60),
    }
    width = max(map(len, lines))
    text = "".join(f"{name:{width}} = {value}\n" for name, value in lines.items() if value is not None)
    return f"{text}queue\n"


def slurm(job: GridJob, work: str) -> str:
    """Returns a script for sbatch that starts the job with `lazyfs run` on the node that Slurm chooses.
    `work`: the job's working directory, on a filesystem that all nodes share. Raises UsageError."""
    directives = {
        "job-name": _plain(job.name, "--outDS"),
        "output": f"{_plain(job.directory, '--outDS')}/stdout",
        "error": f"{job.directory}/stderr",
        "chdir": _plain(work, "--outDS"),
        "ntasks": "1",
        "cpus-per-task": str(job.cores),
        "mem": None if job.memory is None else f"{job.memory}M",
        "time": None if job.minutes is None else str(job.minutes),
    }
    for value in directives.values():
        if value is not None and " " in value:
            raise UsageError(f"{value!a}: Slurm's directives take no blank; choose another place")
    lines = [f"#SBATCH --{name}={value}" for name, value in directives.items() if value is not None]
    return "\n".join(["#!/bin/bash", *lines, "", f"exec {shlex.join(run_command(job, work))}", ""])


def run_command(job: GridJob, work: str) -> list[str]:
    """Returns the command line that starts the job on a node on which the image is mounted. `work`: the job's
    working directory."""
    options = ["--work", f"{work}:{INSIDE}", "--result", os.path.join(job.directory, "result.json")]
    options += [word for bind in job.binds for word in ("--bind", bind)]
    options += [word for pair in job.environment.items() for word in ("--env", "=".join(pair))]
    return ["lazyfs", "run", job.image, *options, "--", "/bin/sh", "-c", job.command]


def _outputs(job: GridJob) -> str | None:
    """Returns the names of the outputs, separated by commas; None if there are no outputs, or if one of them
    is a pattern. If it gets no names, HTCondor sends back every new file."""
    if not job.outputs or any(re.search(r"[*?\[]", name) for name in job.outputs):
        return None
    return ",".join(_plain(name, "--outputs") for name in job.outputs)


def _plain(text: str, of: str) -> str:
    if _UNQUOTABLE.search(text):
        raise UsageError(f"{of} {text!a}: has a character that submit files take for their own; rename it")
    return text
