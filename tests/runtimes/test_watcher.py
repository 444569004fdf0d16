"""The watcher process beside a runtime finds all processes below the runtime, also those that were not
started by the runtime's first thread."""

import os
import subprocess
import sys

from lazyfs.runtimes.watcher import children

THREADED = """
import subprocess, threading
def make():
    with subprocess.Popen(["sleep", "1000"]) as child:
        print(child.pid, flush=True)
threading.Thread(target=make).start()
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
