"""The control socket: a request is one JSON line, and so is its answer.

A request is {"do": NAME, ...}; the answer {"ok": true, ...} or {"ok": false, "error": "..."}. A user's socket
is for that user and root (0600). Every user of the node may connect to a daemon of root's and ask for the
mount's status. Users other than root and the daemon's own may ask for nothing else. The other side is
`control_client`.
"""

import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import trio

from lazyfs.core.errors import LazyfsError

MAX_LINE = 1 << 20
"""Bytes of a request."""
CALLERS = 1024
"""Connections that may wait to be accepted: as many as a node's jobs and watchdogs open at one moment."""
SECONDS = 600
"""Seconds that a connection may take from its first byte to its last."""

STRANGERS = 32
"""Connections of other users that are served at one time."""
STRANGERS_SECONDS = 10
"""Seconds that a connection of another user may take."""
_CREDENTIALS = struct.Struct("iII")

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
log = logging.getLogger(__name__)


class ListeningSocket(NamedTuple):
    """A listening socket and its file."""

    plain: socket.socket
    path: str
    inode: int

    def close(self) -> None:
        """Closes the socket, and removes its file unless a later daemon has put another one there."""
        with self.plain, suppress(FileNotFoundError, PermissionError):
            # No other file gets this inode number before the socket is closed.
            if os.lstat(self.path).st_ino == self.inode:
                os.unlink(self.path)


def listen(path: str, *, everybody: bool) -> ListeningSocket:
    """Returns a socket that listens at `path`, for this user or for everybody. A dead daemon's socket there
    is replaced. The file appears at `path` only when the socket already listens."""
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made = f"{path}.{os.getpid()}"
    with suppress(FileNotFoundError):
        os.unlink(made)
    before = os.umask(0o111 if everybody else 0o177)
    try:
        plain.bind(made)
    finally:
        os.umask(before)
    plain.listen(CALLERS)
    os.rename(made, path)
    return ListeningSocket(plain, path, os.lstat(path).st_ino)


def remove_dead(path: str) -> None:
    """Removes the socket of a daemon that could not remove it: it was killed, or was no longer root."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line,
        suppress(FileNotFoundError, PermissionError, BlockingIOError),
    ):
        line.setblocking(False)
        try:
            line.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)


def sweep(directory: str) -> None:
    """Removes the sockets of dead daemons from a runtime directory."""
    for name in os.listdir(directory):
        if name.endswith(".sock"):
            remove_dead(os.path.join(directory, name))


async def serve(
    listening: ListeningSocket,
    handlers: Mapping[str, Handler],
    public: Mapping[str, Handler],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answers requests on a listening socket until cancelled, then removes the socket.

    `public`: the handlers for users other than root and the daemon's own; at most STRANGERS such users are
    answered at a time.
    """
    strangers = 0

    async def answer(stream: trio.SocketStream) -> None:
        nonlocal strangers
        if _caller(stream) in (0, os.geteuid()):
            await _answer(stream, handlers, SECONDS)
            return
        if strangers >= STRANGERS:
            await stream.aclose()
            return
        strangers += 1
        try:
            await _answer(stream, public, STRANGERS_SECONDS)
        finally:
            strangers -= 1

    try:
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening.plain))
        task_status.started()
        await trio.serve_listeners(answer, [listener])
    finally:
        listening.close()


def _caller(stream: trio.SocketStream) -> int:
    """Returns the id of the user at the other end, which the kernel vouches for."""
    credentials = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1])


async def _answer(stream: trio.SocketStream, handlers: Mapping[str, Handler], seconds: float) -> None:
    async with stream:
        try:
            with trio.fail_after(seconds):
                await stream.send_all(_encoded(await _handle(await _line(stream), handlers)))
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            return  # the caller has gone
        except Exception:  # only this connection ends, not the daemon
            log.exception("control connection")


def _encoded(answer: dict[str, Any]) -> bytes:
    try:
        return json.dumps(answer).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as bug:
        log.exception("control answer")
        return json.dumps({"ok": False, "error": f"{type(bug).__name__}: {bug}"}).encode() + b"\n"


async def _line(stream: trio.SocketStream) -> bytes:
    line = b""
    async for part in stream:
        line += part
        if b"\n" in part or len(line) > MAX_LINE:
            break
    return line.partition(b"\n")[0]


async def _handle(line: bytes, handlers: Mapping[str, Handler]) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        return {"ok": False, "error": f"a request of more than {MAX_LINE} bytes"}
    try:
        request = json.loads(line)
        handler = handlers[request["do"]]
    except (ValueError, KeyError, TypeError, RecursionError):  # RecursionError: 1,000 brackets
        text = f"unknown request, or one of its own user only; this daemon tells you {', '.join(handlers)}"
        return {"ok": False, "error": text}
    try:
        return {"ok": True} | await handler(request)
    except LazyfsError as error:
        return {"ok": False, "error": str(error)}
    except Exception as bug:  # a daemon outlives a bug in its status
        log.exception("control request %s", request["do"])
        return {"ok": False, "error": f"{type(bug).__name__}: {bug}"}
