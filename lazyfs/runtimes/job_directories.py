"""The directories of a job on this machine: the one in which it works, and the one for its results."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from lazyfs.core.errors import UsageError


@contextmanager
def refused(what: str) -> Iterator[None]:
    """Turns an OSError of the block into a UsageError that begins with `what`."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{what}: {error.strerror or error}") from None


class PrivateDirectory:
    """A directory that only this user can enter. Holds the job's working directory, and files that the job
    does not see."""

    def __init__(self) -> None:
        """Raises UsageError."""
        with refused("directory for the job's files"):
            self.path = tempfile.mkdtemp(prefix="lazyfs-work-")
            self.work = os.path.join(self.path, "work")
            os.mkdir(self.work)
        self._is_kept = False

    def keep(self) -> str:
        """Keeps the working directory beyond `close`, and returns its path."""
        self._is_kept = True
        return self.work

    def close(self) -> None:
        """Removes everything, or all but a working directory that is kept."""
        if self._is_kept:
            for name in os.listdir(self.path):
                if name != os.path.basename(self.work):
                    os.unlink(os.path.join(self.path, name))
            return
        with suppress(RecursionError):  # a program can nest directories deeper than Python calls
            shutil.rmtree(self.path, ignore_errors=True)
        for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
            if os.path.lexists(self.path):  # or take its owner's rights away
                with suppress(OSError):
                    subprocess.run([*command, self.path], stderr=subprocess.DEVNULL, check=False)


def output_directory(path: str | None) -> str:
    """Makes the directory for results, if it is not there; a new temporary one for None. Returns the absolute
    path. Raises UsageError."""
    with refused(f"output directory {path or tempfile.gettempdir()}"):
        found = os.path.abspath(path or tempfile.mkdtemp(prefix="lazyfs-job-"))
        os.makedirs(found, exist_ok=True)
        return found


def new_file(directory: str, name: str) -> IO[bytes]:
    """Makes a file among the results, in place of an earlier one, which may be a link that a program has
    left. Raises UsageError."""
    path = os.path.join(directory, name)
    with refused(f"output directory {directory}: {name}"):
        with suppress(FileNotFoundError):
            os.unlink(path)
        return open(path, "xb")
