"""The files that a job is given: its inputs, its image, its account. `job_outputs` has those it leaves."""

import base64
import json
import os
import shutil
from typing import IO, Any, NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.core.image_names import full_name


class File(NamedTuple):
    """A file or directory of this machine, given by its path."""

    path: str


class Link(NamedTuple):
    """A symbolic link that is made in the working directory."""

    name: str
    target: str


def given_file(what: File | Link | os.PathLike[str]) -> File | Link:
    """Returns the file with its absolute path, so that a file that is given twice is known."""
    if isinstance(what, Link):
        return what
    return File(os.path.abspath(what.path if isinstance(what, File) else os.fspath(what)))


def carry_in(what: File | Link, directory: str) -> str:
    """Copies a file or directory into a directory, or makes a link there; returns the new path. Raises
    UsageError, also if another file of the job has the name."""
    path = what.name if isinstance(what, Link) else what.path
    place = os.path.join(directory, path if isinstance(what, Link) else os.path.basename(path))
    try:
        if os.path.lexists(place):
            raise UsageError(f"file of the job {path}: another file of the job has its name; rename one")
        if isinstance(what, Link):
            os.symlink(what.target, place)
        elif os.path.isdir(path):
            shutil.copytree(path, place, symlinks=True, ignore=_special)
        else:
            shutil.copy(path, place)
    except OSError as error:
        raise UsageError(f"file of the job {path}: {_reason(error)}") from None
    return place


def image_path(image: str | File | os.PathLike[str] | IO[bytes]) -> str:
    """Returns the image as an argument of `lazyfs run`: a name unchanged, the absolute path of a File, path
    or open file. Raises UsageError for an open file without a name."""
    if isinstance(image, str):
        return image
    if isinstance(image, File | os.PathLike):
        return os.path.abspath(image.path if isinstance(image, File) else image)
    path = os.readlink(f"/proc/self/fd/{image.fileno()}")
    if not os.path.exists(path):
        raise UsageError(f"image {path}: the open file has no name any more, and runtimes need one")
    return path


def write_account(path: str, image: str, user: str, password: str) -> None:
    """Writes the user and password (a deploy token) for the image's registry, in the format of docker's and
    podman's files of accounts, readable for this user only."""
    registry = full_name(image.removeprefix("docker://")).partition("/")[0]
    secret = base64.b64encode(f"{user}:{password}".encode()).decode()
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(number, "w") as file:
        json.dump({"auths": {registry: {"auth": secret}}}, file)


def read_result(path: str, code: int) -> dict[str, Any]:
    """Returns the document of `lazyfs run --result`. If the run was killed before it wrote one, returns a
    document that says that lazyfs failed. `code`: the run's exit code in the form of Popen.returncode."""
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


def _reason(error: OSError) -> str:
    if isinstance(error, shutil.Error):  # of a tree: has a list of (source, copy, reason)
        source, _, reason = error.args[0][0]
        return f"{source}: {reason}"
    return error.strerror or str(error)


def _special(directory: str, names: list[str]) -> list[str]:
    """Returns the names that are not copied: neither file, directory nor link. Reading a pipe would wait for
    ever."""
    paths = {name: os.path.join(directory, name) for name in names}
    return [
        name
        for name, path in paths.items()
        if not (os.path.islink(path) or os.path.isfile(path) or os.path.isdir(path))
    ]
