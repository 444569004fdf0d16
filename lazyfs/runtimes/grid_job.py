"""A job as `prun` describes it: a shell command, an image, files that go in and files that come out."""

import fnmatch
import os
from collections.abc import Sequence
from typing import NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.grid_proxy import GridProxy

DATASET = "/input"
"""The input dataset's directory in a container of this machine or of Slurm."""
LARGEST = 10 << 20
"""Bytes of a file of the working directory that is sent along; larger ones are named with --extFile."""


class GridJob(NamedTuple):
    """One job."""

    image: str
    """A directory with links resolved, a SIF file, or `docker://NAME`."""
    command: str
    """For `/bin/sh`."""
    name: str
    directory: str
    """Absolute path of the directory for the job's files and results."""
    inputs: tuple[str, ...] = ()
    """Absolute paths of files and directories that are carried into the working directory."""
    dataset: tuple[str, ...] = ()
    """Absolute paths of the input dataset's files, which the working directory has links to; of one
    directory."""
    outputs: tuple[str, ...] = ()
    """Names or patterns, below the working directory."""
    proxy: GridProxy | None = None
    cores: int = 1
    memory: int | None = None
    """MB."""
    minutes: int | None = None

    @property
    def binds(self) -> tuple[str, ...]:
        """Binds for `lazyfs run`."""
        data = (f"{os.path.dirname(self.dataset[0])}:{DATASET}:ro,required",) if self.dataset else ()
        return (*data, *(self.proxy.binds if self.proxy else ()))

    def inside(self, path: str) -> str:
        """Returns the path of one of the dataset's files in the container."""
        return f"{DATASET}/{os.path.basename(path)}"

    @property
    def environment(self) -> dict[str, str]:
        return self.proxy.environment if self.proxy else {}


def dataset_files(name: str, most: int | None) -> tuple[str, ...]:
    """Returns the files of an input dataset, sorted, `most` at most. `name`: a directory, or `SCOPE:DATASET`,
    which `rucio download` puts into the directory DATASET. Raises UsageError."""
    places = (name, name.rpartition(":")[2].rstrip("/"))
    directory = next((os.path.abspath(place) for place in places if os.path.isdir(place)), None)
    if directory is None:
        raise UsageError(f"--inDS {name}: is not here; fetch it first: rucio download {name}")
    with os.scandir(directory) as entries:
        files = sorted(entry.path for entry in entries if entry.is_file())
    if not files:
        raise UsageError(f"--inDS {name}: {directory} has no files")
    return tuple(files[:most])


def sandbox_files(
    directory: str, left_out: str, external: Sequence[str], *, only_named: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns (paths to send along, names that are too large) of a working directory.

    `left_out`: the path of the output directory. `external`: names and patterns of large files that are sent
    all the same; with `only_named` nothing else is. Hidden names stay.
    """
    sent, large = [], []
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        wanted = any(fnmatch.fnmatchcase(name, pattern) for pattern in external)
        if path == left_out or ((name.startswith(".") or only_named) and not wanted):
            continue
        if not wanted and os.path.isfile(path) and os.path.getsize(path) > LARGEST:
            large.append(name)
        elif os.path.isfile(path) or os.path.isdir(path):
            sent.append(path)
    return tuple(sent), tuple(large)


def input_list(option: str) -> str:
    """Returns the file's name of `--writeInputToTxt IN:FILE`. Raises UsageError."""
    stream, _, name = option.partition(":")
    if stream != "IN" or not name or "/" in name:
        raise UsageError(f"--writeInputToTxt {option}: write IN:FILE; there is one stream, and no directory")
    return name


def with_inputs(command: str, files: Sequence[str]) -> str:
    """Returns the command with the names of the dataset's files in place of %IN, with commas between."""
    return command.replace("%IN", ",".join(os.path.basename(path) for path in files)) if files else command
