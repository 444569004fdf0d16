"""The files of a job: copies its inputs into the working directory, and its outputs out of it."""

import base64
import glob
import json
import os
import shutil
from collections.abc import Sequence
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


def carry_in(what: File | Link | os.PathLike[str], directory: str) -> str:
    """Copies a file or directory into a directory, or makes a link there; returns the new path. Raises
    UsageError."""
    if isinstance(what, Link):
        place = os.path.join(directory, what.name)
        os.symlink(what.target, place)
        return place
    path = what.path if isinstance(what, File) else os.fspath(what)
    try:
        if os.path.isdir(path):
            place = os.path.join(directory, os.path.basename(os.path.normpath(path)))
            return shutil.copytree(path, place, symlinks=True, ignore=_special)
        return shutil.copy(path, directory)
    except OSError as error:
        raise UsageError(f"file of the job {path}: {error.strerror or error}") from None


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


def carry_out(work: str, patterns: Sequence[str], results: str) -> dict[str, str]:
    """Copies files and directories of the directory `work` whose names match the patterns into the directory
    `results`; returns name -> path of the copy. Links are copied as links, never followed: the program could
    have pointed them at any file of this machine. Raises UsageError for a name that leads out of the job's
    directory."""
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
    """Returns the names that are not copied: neither file, directory nor link. Reading a pipe would wait for
    ever."""
    paths = {name: os.path.join(directory, name) for name in names}
    return [
        name
        for name, path in paths.items()
        if not (os.path.islink(path) or os.path.isfile(path) or os.path.isdir(path))
    ]
