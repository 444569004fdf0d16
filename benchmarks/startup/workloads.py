"""The programs that are run in the images."""

import os
import random
import stat
import subprocess
from typing import Final

import msgspec

from benchmarks.startup.recipes import RECIPES
from benchmarks.startup.sides import bubblewrap


class Workload(msgspec.Struct, frozen=True):
    """A command, and what its output must be for a start to count."""

    name: str
    image: str
    command: tuple[str, ...]
    answer: bytes
    repeatable: bool = False
    """True if the whole output is the same on every side."""
    output: bytes | None = None
    """The whole output, if it is known."""

    def wrong(self, output: bytes) -> bool:
        """Returns True if a start with this output does not count."""
        return self.answer not in output or (self.output is not None and output != self.output)


SHELL: Final = Workload(
    "shell", "shell", ("/bin/sh", "-c", "echo started; ls /bin | wc -l"), answer=b"started\n"
)
ANALYSIS: Final = Workload(
    "analysis", "analysis", ("/usr/bin/python3", "/opt/analysis.py"), answer=b"result 91.20\n"
)
HELLO: Final = Workload(
    "hello", "analysis", ("/usr/bin/python3", "-c", "print('started')"), answer=b"started\n"
)
READ_ALL: Final = Workload(
    "read everything",
    "analysis",
    ("/bin/sh", "-c", "echo started; cd /; tar -cf - bin etc lib opt sbin usr var | wc -c"),
    answer=b"started\n",
)
RANDOM_FILES: Final = Workload(
    "random files",
    "analysis",
    ("/bin/sh", "-c", 'echo started; cat -- "$@" | wc -c', "sh"),
    answer=b"started\n",
)
"""Reads files given as arguments, which `with_random_files` adds."""
RANDOM: Final = 200
"""The number of files that RANDOM_FILES reads."""
SMALL: Final = 64 << 10
"""The largest size of these files in bytes."""
OF_RECIPES: Final = tuple(
    Workload(recipe.name, recipe.name, ("/bin/sh", f"/opt/{recipe.name}/run"), recipe.answer, repeatable=True)
    for recipe in RECIPES
)
WORKLOADS: Final = {
    workload.name: workload for workload in (SHELL, ANALYSIS, HELLO, READ_ALL, RANDOM_FILES, *OF_RECIPES)
}


def with_random_files(tree: str) -> Workload:
    """Returns RANDOM_FILES with the paths of files in an unpacked image, which are chosen at random but are
    the same each time."""
    found = []
    for directory, folders, files in os.walk(tree):
        folders[:] = sorted(folders) if directory != tree else sorted(set(folders) - _COVERED)
        for name in sorted(files):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode) and 0 < status.st_size <= SMALL:
                found.append("/" + os.path.relpath(path, tree))
    chosen = random.Random(7).sample(found, RANDOM)
    return msgspec.structs.replace(RANDOM_FILES, command=(*RANDOM_FILES.command, *chosen))


_COVERED: Final = {"dev", "proc", "tmp"}
"""Directories that are hidden in the sandbox, which mounts its own over them."""


def with_output(workload: Workload, tree: str) -> Workload:
    """Returns the workload with the whole output that it has in an unpacked image. Raises RuntimeError if it
    fails there."""
    done = subprocess.run(
        bubblewrap(tree, workload.command).argv, check=False, stdin=subprocess.DEVNULL, capture_output=True
    )
    if done.returncode or workload.answer not in done.stdout:
        raise RuntimeError(
            f"{workload.name} exited {done.returncode} in the unpacked image: "
            f"{done.stdout[-500:]!r} {done.stderr[-2000:]!r}"
        )
    return msgspec.structs.replace(workload, output=done.stdout)
