"""The init of an enclosure: waits for the end of the start, and reports it."""

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from lazyfs.runtimes.enclosure import NOTIFY, Enclosure

if TYPE_CHECKING:
    import socket

NOT_STARTED = 125
"""The exit code of an enclosure's processes if the runtime was not started."""
_MOST_ENDS = 1000
"""The largest number of ended processes whose exit codes are kept. A program may leave any number of orphans
to the init; the process whose exit code is asked for is among the first that end."""


class EnclosedEnd(NamedTuple):
    """The init's report of how the runtime ended."""

    code: int
    """Exit code of the runtime's process; -N if signal N ended it."""
    name: str
    """The process's name at its end. It is the program's if the runtime has executed the program in its own
    process."""
    evident: bool
    error: str | None
    """The reason why the runtime could not be started; None if it was started."""


class _End(NamedTuple):
    """The end of one process that the init has reaped."""

    name: str
    code: int
    others: dict[int, int]
    """The exit codes, by process id, of the first processes that ended before this one."""


def read_end(status: bytes) -> EnclosedEnd:
    """Parses the report that `wait` has written."""
    fields = json.loads(status or b'{"error": "it was killed"}')
    return EnclosedEnd(
        fields.get("code", NOT_STARTED),
        fields.get("name", ""),
        fields.get("evident", False),
        fields.get("error"),
    )


def listen(enclosure: Enclosure) -> "socket.socket | None":
    """Returns the socket to which the runtime reports the program's start by sd_notify; None for a runtime
    that does not report it. Raises OSError."""
    if not enclosure.notified:
        return None
    import socket  # 2 ms, for the one runtime that notifies

    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(os.path.join(enclosure.scratch, NOTIFY))
    notices.setblocking(False)
    return notices


def wait(runtime: int, enclosure: Enclosure, status: int, notices: "socket.socket | None") -> NoReturn:
    """Waits until the runtime ends and, if it is a detached one, until its program ends too. Reaps all other
    processes meanwhile. `runtime`: the runtime's process id. In the end, writes the report to the
    descriptor `status` and exits."""
    name, code, others = _end_of(runtime)
    evidence = _evidence(enclosure)
    if enclosure.detached and code == 0 and evidence:
        program = int(evidence)
        code = others[program] if program in others else _end_of(program).code
    report = {"code": code, "name": name, "evident": bool(evidence) or _ready(notices)}
    os.write(status, json.dumps(report).encode())
    os._exit(code if code >= 0 else 128 - code)


def _end_of(wanted: int) -> _End:
    """Waits for the end of the process `wanted`, which is below the init, and reaps the processes that end
    before it."""
    others: dict[int, int] = {}
    while True:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        assert found is not None
        with open(f"/proc/{found.si_pid}/comm") as file:
            name = file.read().rstrip("\n")
        code = os.waitstatus_to_exitcode(os.waitpid(found.si_pid, 0)[1])
        if found.si_pid == wanted:
            return _End(name, code, others)
        if len(others) < _MOST_ENDS:
            others[found.si_pid] = code


def _ready(notices: "socket.socket | None") -> bool:
    """Returns True if the runtime has reported the program's start. `notices`: the socket of `listen`."""
    with suppress(BlockingIOError):
        while notices is not None:
            if b"READY=1" in notices.recv(1 << 16).split(b"\n"):
                return True
    return False


def _evidence(enclosure: Enclosure) -> str:
    """Returns the beginning of the file that is the evidence of the program's start; empty if there is
    none."""
    if enclosure.evidence is None:
        return ""
    try:
        with open(os.path.join(enclosure.scratch, enclosure.evidence), errors="replace") as file:
            return file.read(64)
    except FileNotFoundError:
        return ""
