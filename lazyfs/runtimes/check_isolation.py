"""Tests the isolation of a runtime: starts a probe in the runtime, which looks for the caller's files,
processes, variables and sockets."""

import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

from lazyfs.core.errors import LazyfsError
from lazyfs.runtimes import inner_probe
from lazyfs.runtimes.isolation import Check, judge
from lazyfs.runtimes.launch import Bind
from lazyfs.runtimes.protocol import Runtime
from lazyfs.runtimes.trial import start_here
from lazyfs.system.own_python import PYTHON

_VARIABLE = "LAZYFS_ISOLATION_PROBE"
_SLEEP = "import sys; sys.stdin.read()"


def check_isolation(runtime: Runtime) -> tuple[Check, ...]:
    """Runs a probe in a runtime that works here, and returns the checks. Raises LazyfsError if the probe
    cannot be run."""
    word = os.urandom(8).hex()
    with (
        socket.socket(socket.AF_UNIX) as listener,
        _hidden_files() as hidden,
        subprocess.Popen([*PYTHON, "-c", _SLEEP, word], stdin=subprocess.PIPE) as process,
    ):
        listener.bind(f"\0lazyfs-{word}")
        listener.listen()
        os.environ[_VARIABLE] = word
        try:
            given = {
                "files": hidden,
                "marker": word,
                "socket": f"lazyfs-{word}",
                "variable": f"{_VARIABLE}={word}",
            }
            inside = _ask(runtime, given)
        finally:
            del os.environ[_VARIABLE]
            process.kill()
    outside = {"namespaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in ("mnt", "pid", "ipc")}}
    return judge(outside, inside)


@contextmanager
def _hidden_files() -> Iterator[list[str]]:
    """Makes a file in the directory for temporary files and, where it can, one in the caller's home; yields
    their paths."""
    with ExitStack() as stack:
        named = partial(tempfile.NamedTemporaryFile, prefix="lazyfs-hidden-")
        paths = [stack.enter_context(named()).name]
        with suppress(OSError):
            paths.append(stack.enter_context(named(dir=os.path.expanduser("~"))).name)
        yield paths


def _ask(runtime: Runtime, given: dict[str, Any]) -> dict[str, Any]:
    python = os.path.realpath(PYTHON[0])
    command = (python, "-I", "-S", "/lazyfs/probe.py", json.dumps(given))
    done = start_here(runtime, command, (Bind(inner_probe.__file__, "/lazyfs/probe.py", True),))
    try:
        answers: dict[str, Any] = json.loads(done.output)
    except ValueError:
        said = done.said.strip().splitlines()[-1:] or [f"exit code {done.code}"]
        raise LazyfsError(f"the isolation of {runtime.name} could not be probed: {said[0]}") from None
    return answers
