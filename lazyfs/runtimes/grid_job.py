"""A job as `prun` describes it: a shell command, an image, files that go in and files that come out."""

import fnmatch
import os
from collections.abc import Sequence
from typing import NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.grid_proxy import GridProxy
from lazyfs.runtimes.job_directories import refused

DATASET = "/input"
"""The directory of the input dataset in a container that is started on this machine or by Slurm."""
LARGEST = 10 << 20
"""The largest size, in bytes, of a file in the caller's working directory (--useSandbox) that is sent along
unasked; larger files have to be named with --extFile."""


class GridJob(NamedTuple):
    """One job of prun: its image, command and files."""

    image: str
    """A directory with links resolved, a SIF file, or `docker://NAME`."""
    command: str
    """The shell command, for `/bin/sh -c`."""
    name: str
    directory: str
    """Absolute path of the directory for the job's files and results."""
    inputs: tuple[str, ...] = ()
    """Absolute paths of files and directories that are copied into the job's working directory."""
    dataset: tuple[str, ...] = ()
    """Absolute paths of the input dataset's files, all in one directory. The working directory gets links to
    them."""
    outputs: tuple[str, ...] = ()
    """Names or patterns of the job's output files, below the working directory."""
    proxy: GridProxy | None = None
    cores: int = 1
    memory: int | None = None
    """Memory of the job in MB."""
    minutes: int | None = None

    @property
    def binds(self) -> tuple[str, ...]:
        """The values of --bind for `lazyfs run`."""
        data = (f"{os.path.dirname(self.dataset[0])}:{DATASET}:ro,required",) if self.dataset else ()
        return (*data, *(self.proxy.binds if self.proxy else ()))

    def inside(self, path: str) -> str:
        """Returns the path that a file of the dataset has in the container."""
        return f"{DATASET}/{os.path.basename(path)}"

    @property
    def environment(self) -> dict[str, str]:
        return self.proxy.environment if self.proxy else {}


def dataset_files(name: str, most: int | None) -> tuple[str, ...]:
    """Returns the paths of the files of an input dataset, sorted; only the first `most` of them unless that
    is None. `name`: a directory, or `SCOPE:DATASET`, which `rucio download` puts into the directory DATASET.
    Raises UsageError."""
    places = (name, name.rpartition(":")[2].rstrip("/"))
    directory = next((os.path.abspath(place) for place in places if os.path.isdir(place)), None)
    if directory is None:
        raise UsageError(f"--inDS {name}: is not here; fetch it first: rucio download {name}")
    with refused(f"--inDS {name}"), os.scandir(directory) as entries:
        files = sorted(entry.path for entry in entries if entry.is_file())
    if not files:
        raise UsageError(f"--inDS {name}: {directory} has no files")
    return tuple(files[:most])


def sandbox_files(
    directory: str, left_out: str, external: Sequence[str], *, only_named: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns (paths to send along, names of files that are too large) for the caller's working directory.

    `left_out`: the path of the output directory, which is not sent. `external`: names and patterns of files
    that are sent even if they are large or hidden. `only_named`: True to send only the files of `external`.
    """
    sent, large = [], []
    with refused(f"working directory {directory}"):
        names = sorted(os.listdir(directory))
    for name in names:
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
    """Returns FILE of `--writeInputToTxt IN:FILE`. Raises UsageError."""
    stream, _, name = option.partition(":")
    if stream != "IN" or name in ("", ".", "..") or "/" in name:
        raise UsageError(f"--writeInputToTxt {option}: write IN:FILE; there is one stream, and no directory")
    return name


def with_inputs(command: str, files: Sequence[str]) -> str:
    """Returns the command with %IN replaced by the names of the dataset's files, separated by commas."""
    return command.replace("%IN", ",".join(os.path.basename(path) for path in files)) if files else command
