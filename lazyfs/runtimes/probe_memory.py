"""Remembers, for this user and until this machine is restarted, which runtimes work here.

Only success is remembered: a failure may be temporary, and probing again costs less than a job that is not
run.
"""

import json
import os
import zlib
from collections.abc import Callable
from contextlib import suppress

from lazyfs.core.errors import UsageError
from lazyfs.daemon.runtime_directory import directory
from lazyfs.runtimes.protocol import RuntimeProbe
from lazyfs.system.trusted_files import open_file

_STATE = ("Uid", "Gid", "CapBnd", "NoNewPrivs", "Seccomp")
"""Fields of /proc/self/status that decide what a process may do."""
_SWITCHES = (
    "/proc/sys/user/max_user_namespaces",
    "/proc/sys/kernel/unprivileged_userns_clone",
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
    "/proc/self/attr/current",
)
"""Files that an administrator's decisions change: the three that limit user namespaces, and the one with this
process's security label. A result is remembered together with their content."""
_LIMIT = 1 << 16
_PREFIX = "runtime-"
MOST = 64
"""The largest number of results that are kept for a user."""


def remembered(runtime: str, executable: str, ask: Callable[[], RuntimeProbe]) -> RuntimeProbe:
    """Returns the result of an earlier probe in the same circumstances. If there is none, returns the result
    of `ask`, which makes a probe."""
    try:
        facts = _circumstances(executable)
        top = directory()
    except (OSError, UsageError):
        return ask()
    # the facts are compared whole: the sum only keeps those of several namespaces apart
    path = os.path.join(top, f"{_PREFIX}{runtime}-{zlib.crc32(repr(facts).encode()):08x}")
    with suppress(OSError, UsageError, ValueError, KeyError, TypeError):
        number = open_file(path, os.O_RDONLY)
        with open(number, "rb") as file:
            known = json.loads(file.read(_LIMIT))
        if known["facts"] == facts:
            return RuntimeProbe(runtime, True, str(known["says"]), frozenset(map(str, known["abilities"])))
    probe = ask()
    if probe.usable:
        with suppress(OSError, UsageError):
            number = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            with open(number, "w") as file:
                json.dump({"says": probe.says, "abilities": sorted(probe.abilities), "facts": facts}, file)
            _forget(top)
    return probe


def _forget(top: str) -> None:
    """Removes the oldest results in the directory `top` beyond MOST. There may be many: each job of a batch
    system may have its own namespaces, and a result for them."""
    found = [os.path.join(top, name) for name in os.listdir(top) if name.startswith(_PREFIX)]
    if len(found) > MOST:
        for path in sorted(found, key=lambda path: os.lstat(path).st_mtime_ns)[:-MOST]:
            os.unlink(path)


def _circumstances(executable: str) -> list[str]:
    """Returns all facts that the result of a probe depends on. Raises OSError."""
    found = os.stat(executable)
    facts = [ascii(executable), str(found.st_ino), str(found.st_mtime_ns)]
    facts.append(_content("/proc/sys/kernel/random/boot_id"))
    facts += [line for line in _content("/proc/self/status").split("\n") if line.partition(":")[0] in _STATE]
    facts += [_content(path) for path in _SWITCHES]
    return facts + [os.readlink(f"/proc/self/ns/{kind}") for kind in ("user", "mnt", "pid", "cgroup")]


def _content(path: str) -> str:
    """Returns a file's content; an empty text if this kernel has no such file."""
    try:
        with open(path, "rb") as file:
            return file.read(_LIMIT).decode("latin-1")
    except OSError:
        return ""
