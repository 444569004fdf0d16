"""Looks from inside a sandbox for things that must be hidden there. Another Python runs this file inside,
without lazyfs.

The argument is JSON: {"files": paths of the caller's files, "marker": an argument of the caller's process,
"socket": the name of the caller's abstract socket, "variable": a variable of the caller's}. Prints what it
can see of them as JSON.
"""

import json
import os
import socket
import sys
from contextlib import suppress
from typing import Any


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _reaches(name: str) -> bool:
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(2)
        try:
            line.connect("\0" + name)
        except OSError:
            return False
        return True


def _can_make_files() -> bool:
    with suppress(OSError):
        os.close(os.open("/lazyfs-probe", os.O_WRONLY | os.O_CREAT))
        os.unlink("/lazyfs-probe")
        return True
    return False


def look(given: dict[str, Any]) -> dict[str, Any]:
    """Looks for the things in `given` (the argument in the module's docstring), also in every process that is
    visible inside. Returns those that it has seen, and facts of this process: its namespaces, its
    capabilities, and whether it can make files in the root directory."""
    status = dict(
        line.split(":\t", 1) for line in _read("/proc/self/status").decode().splitlines() if ":\t" in line
    )
    pids = [name for name in os.listdir("/proc") if name.isdigit() and name != str(os.getpid())]
    marker, variable = given["marker"].encode(), given["variable"].encode()
    return {
        "files": [path for path in given["files"] if os.path.exists(path)],
        "processes": [int(pid) for pid in pids if marker in _read(f"/proc/{pid}/cmdline").split(b"\0")],
        "variables": [
            f"/proc/{pid}/environ has a variable of the caller's"
            for pid in ("self", *pids)
            if variable in _read(f"/proc/{pid}/environ")
        ],
        "socket": _reaches(given["socket"]),
        "namespaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in ("mnt", "pid", "ipc")},
        "no_new_privileges": status.get("NoNewPrivs") == "1",
        "capabilities": status.get("CapEff", "0"),
        "root_writable": _can_make_files(),
    }


if __name__ == "__main__":
    print(json.dumps(look(json.loads(sys.argv[1]))))  # noqa: T201
