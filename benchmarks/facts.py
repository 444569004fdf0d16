"""Facts about the machine and the code with which a result was measured. Every committed result contains
them."""

import os
import platform
import re
import subprocess
from pathlib import Path

import msgspec


class Facts(msgspec.Struct, frozen=True):
    """Facts about a machine and a checkout. No field names the machine or its network."""

    cpu: str
    cores: int
    memory_bytes: int
    kernel: str
    system: str
    python: str
    commit: str
    """Short hash of the commit, with `+` appended if files other than results differ from it."""


def gather(checkout: Path) -> Facts:
    """Reads the facts from /proc, /etc/os-release and git. Raises OSError or CalledProcessError if one cannot
    be read."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert memory is not None
    git = ["git", "-C", str(checkout), "-c", "safe.directory=*"]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True)
    status = [*git, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results"]
    changed = subprocess.run(status, check=True, capture_output=True, text=True)
    return Facts(
        cpu=cpu[1].strip() if cpu else platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=int(memory[1]) * 1024,
        kernel=platform.release(),
        system=platform.freedesktop_os_release()["PRETTY_NAME"],
        python=platform.python_version(),
        commit=head.stdout.strip() + ("+" if changed.stdout else ""),
    )
