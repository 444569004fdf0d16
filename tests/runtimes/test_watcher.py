"""The watcher process beside a runtime finds all processes below the runtime, also those that were not
started by the runtime's first thread."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lazyfs.runtimes import enclosed_programs
from lazyfs.runtimes.enclosed_programs import programs_below
from lazyfs.runtimes.enclosure import Enclosure
from lazyfs.runtimes.watcher import children
from tests.support.until import until

THREADED = """
import subprocess, threading
def make():
    with subprocess.Popen(["sleep", "1000"]) as child:
        print(child.pid, flush=True)
threading.Thread(target=make).start()
"""
INIT = """
import ctypes, os, subprocess
ctypes.CDLL(None).prctl(36, ctypes.c_ulong(1))  # PR_SET_CHILD_SUBREAPER
subprocess.Popen(["sh", "-c", "unshare --mount chroot /usr /bin/sleep 1000 & wait"])
while True:
    os.wait()
"""


def test_a_child_of_another_thread_is_a_child() -> None:
    """runc is written in Go, and any of its threads may make the program's process."""
    with subprocess.Popen([sys.executable, "-c", THREADED], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert children(process.pid) == [child]
        assert child not in children(os.getpid())
        os.kill(child, 9)
    assert children(process.pid) == []


@pytest.mark.root
@pytest.mark.parametrize(
    ("command", "is_program"),
    [("unshare --mount sleep 1000", False), ("unshare --mount chroot /usr /bin/sleep 1000", True)],
)
def test_a_helper_of_the_runtime_is_no_program(command: str, is_program: bool) -> None:
    """apptainer starts programs of the machine in the mount namespace of the image's program, before it
    changes to the image's root. A signal to such a helper would be lost."""
    enclosure = Enclosure("/none", "/none")
    outer = subprocess.Popen(["sh", "-c", f"sh -c '{command}; :'; :"], start_new_session=True)
    try:
        until(lambda: _last_below(outer.pid) == "sleep")
        assert bool(programs_below(enclosure, outer.pid)) == is_program
    finally:
        os.killpg(outer.pid, signal.SIGKILL)
        outer.wait(30)


@pytest.mark.root
@pytest.mark.parametrize("its_name_is_read", [False, True])
def test_a_program_is_found_while_its_runtime_ends(
    monkeypatch: pytest.MonkeyPatch, its_name_is_read: bool
) -> None:
    """crun and runc end as soon as they have started the program, which then becomes the init's child. Here
    the runtime ends after the init's children were read: a signal to the processes of this walk alone would
    go to one that is gone, or to none."""
    outer = subprocess.Popen(
        ["sh", "-c", '"$@"; :', "sh", sys.executable, "-c", INIT], start_new_session=True
    )
    try:
        until(lambda: _last_below(outer.pid) == "sleep")
        (init,) = children(outer.pid)
        (runtime,) = children(init)
        program = children(runtime)

        def while_it_ends(pid: int) -> list[int]:
            found = [] if pid == runtime else children(pid)
            if pid == (runtime if its_name_is_read else init) and os.path.exists(f"/proc/{runtime}"):
                os.kill(runtime, signal.SIGKILL)
                until(lambda: not os.path.exists(f"/proc/{runtime}"))
            return found

        monkeypatch.setattr(enclosed_programs, "children", while_it_ends)
        assert programs_below(Enclosure("/none", "/none"), outer.pid) == program
    finally:
        os.killpg(outer.pid, signal.SIGKILL)
        outer.wait(30)


def _last_below(pid: int) -> str:
    """Returns the name of the youngest descendant."""
    below = children(pid)
    return _last_below(below[-1]) if below else Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
