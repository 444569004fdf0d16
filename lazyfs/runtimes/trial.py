"""Tries a runtime on this machine by a real start: a smaller test could pass where a start fails."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from lazyfs.core.errors import LazyfsError
from lazyfs.runtimes.enclosed import executable_of
from lazyfs.runtimes.launch import Bind, Launch
from lazyfs.runtimes.probe_memory import remembered
from lazyfs.runtimes.protocol import Runtime, RuntimeProbe
from lazyfs.runtimes.scratch import scratch_name
from lazyfs.system.bounded_look import ask_one
from lazyfs.system.clean_start import close_descriptors

_SECONDS = 20
_CODE = 7
"""The exit code of the trial's program: one that no runtime uses for its own failures."""
_SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")


def try_out(runtime: Runtime, programs: Sequence[str], given: str | None) -> RuntimeProbe:
    """Starts this machine's `sh` with the runtime, in a root filesystem made of this machine's /usr. Returns
    the result, or that of an earlier trial in the same circumstances.

    `programs`: names of the runtime's executable. `given`: the path of the executable, if the computing
    site's settings have one. The trial is made like any other start, so it tries all that a real start needs:
    namespaces, mounts, an added mount point, a read-only bind, the exit code.
    """
    executable = executable_of(programs, given)
    if executable is None:
        where = "is not on PATH; install it" if given is None else "is no executable file"
        return RuntimeProbe(runtime.name, False, f"{given or programs[0]} {where}")
    return remembered(runtime.name, executable, lambda: _try_out(runtime, executable))


class TrialEnd(NamedTuple):
    """The end of a program of this machine that was started in a runtime."""

    code: int | None
    """The program's exit code; -1 if the start could not be made; None if it did not end in time."""
    output: str
    said: str
    """The text that the trial wrote to stderr."""


def _try_out(runtime: Runtime, executable: str) -> RuntimeProbe:
    done = start_here(runtime, ("/bin/sh", "-c", f"cd /added/here && ! (: >new) 2>/dev/null && exit {_CODE}"))
    if done.code is None:
        return RuntimeProbe(runtime.name, False, f"a trial of {executable} did not end in {_SECONDS} s")
    if done.code == _CODE:
        return RuntimeProbe(runtime.name, True, executable)
    last = done.said.strip().splitlines()[-1:] or [f"exit code {done.code}"]
    return RuntimeProbe(runtime.name, False, f"a trial failed ({last[0]})")


def start_here(runtime: Runtime, command: tuple[str, ...], binds: tuple[Bind, ...] = ()) -> TrialEnd:
    """Starts a program of this machine with the runtime, in a root filesystem of this machine's system
    directories, as the caller."""
    try:
        with trial_image() as (root, own):
            launch = Launch(
                root,
                command,
                {"PATH": "/usr/bin:/bin"},
                binds=(*own, Bind(root, "/added/here", True), *binds),
                as_root=os.geteuid() == 0,
                scratch=scratch_name(),
            )
            answer = ask_one(lambda: _start(runtime, launch), _SECONDS)
    except OSError as error:  # no directory for temporary files can be written to
        return TrialEnd(-1, "", str(error.strerror))
    return TrialEnd(*answer.value) if answer.came else TrialEnd(None, "", "")


def _start(runtime: Runtime, launch: Launch) -> tuple[int, str, str]:
    """Makes the start; returns the fields of TrialEnd. Runs in a child whose streams are /dev/null."""
    files = {number: os.memfd_create("stream") for number in (1, 2)}
    for number, file in files.items():
        os.dup2(file, number)
    try:
        code, reason = runtime.read_end(runtime.start(runtime.plan(launch))).exit_code, ""
    except (OSError, LazyfsError) as error:
        code, reason = -1, str(error)
    texts = [os.pread(file, 1 << 16, 0).decode(errors="replace") for file in files.values()]
    return code, texts[0], texts[1] + reason


@contextmanager
def trial_image() -> Iterator[tuple[str, tuple[Bind, ...]]]:
    """Makes a root filesystem that has nothing but this machine's system directories. Yields its path, and
    the binds that show those directories in it."""
    import tempfile  # with shutil 8 ms, and a trial is remembered

    root = tempfile.mkdtemp(prefix="lazyfs-trial-")
    with _removed_after(root):
        os.chmod(root, 0o755)  # noqa: S103 - nothing in it is secret
        paths = {"/usr", os.path.realpath(sys.base_prefix)}
        for path in _SYSTEM:
            if os.path.islink(path):
                os.symlink(os.readlink(path), root + path)
            elif os.path.isdir(path):
                paths.add(path)
        for path in paths:
            os.makedirs(root + path, exist_ok=True)
        yield root, tuple(Bind(path, path, True) for path in sorted(paths))


@contextmanager
def _removed_after(path: str) -> Iterator[None]:
    """Removes a directory after the block. A child process waits for the end of the block and does this, so
    the directory is removed even if this process is killed."""
    import shutil

    waiting, held = os.pipe()
    guard = os.fork()
    if guard == 0:
        try:
            os.setsid()
            close_descriptors((waiting,))
            os.read(waiting, 1)
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os._exit(0)
    os.close(waiting)
    try:
        yield
    finally:
        os.close(held)
        os.waitpid(guard, 0)
