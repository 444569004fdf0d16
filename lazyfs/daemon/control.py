"""The control socket: one JSON line asked, one JSON line answered.

A request is {"do": NAME, ...}; the answer {"ok": true, ...} or {"ok": false, "error": "..."}. The mode of the
socket, 0600, says who may connect. The other side is `control_client`.
"""

import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import trio

from lazyfs.core.errors import LazyfsError

MAX_LINE = 1 << 20
"""Bytes of a request."""
CALLERS = 1024
"""Connections that may wait to be taken: as many as a node's jobs and watchdogs open at one moment."""
SECONDS = 600
"""How long a connection may take from its first byte to its last."""

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
log = logging.getLogger(__name__)


class ListeningSocket(NamedTuple):
    """A socket that listens and the file it has."""

    plain: socket.socket
    path: str
    inode: int

    def close(self) -> None:
        """Ends it and removes its file, if no later daemon has put one of its own there."""
        with self.plain, suppress(FileNotFoundError, PermissionError):
            if os.lstat(self.path).st_ino == self.inode:  # which nobody else gets before the socket is closed
                os.unlink(self.path)


def listen(path: str) -> ListeningSocket:
    """Returns a socket that listens at `path`, for this user only; one that a dead daemon left there is
    replaced."""
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        if os.path.lexists(path):
            os.unlink(path)
        plain.bind(path)
    finally:
        os.umask(before)
    plain.listen(CALLERS)
    return ListeningSocket(plain, path, os.lstat(path).st_ino)


async def serve(
    listening: ListeningSocket,
    handlers: Mapping[str, Handler],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answers on a listening socket until cancelled, then removes it."""

    async def answer(stream: trio.SocketStream) -> None:
        await _answer(stream, handlers)

    try:
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening.plain))
        task_status.started()
        await trio.serve_listeners(answer, [listener])
    finally:
        listening.close()


async def _answer(stream: trio.SocketStream, handlers: Mapping[str, Handler]) -> None:
    async with stream:
        try:
            with trio.fail_after(SECONDS):
                await stream.send_all(_encoded(await _handle(await _line(stream), handlers)))
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            return  # the caller has gone
        except Exception:  # one connection ends, and not the daemon
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
    except (ValueError, KeyError, TypeError, RecursionError):  # the last for 1,000 brackets
        return {"ok": False, "error": f"unknown request; this daemon knows {', '.join(handlers)}"}
    try:
        return {"ok": True} | await handler(request)
    except LazyfsError as error:
        return {"ok": False, "error": str(error)}
    except Exception as bug:  # a daemon outlives a bug in its status
        log.exception("control request %s", request["do"])
        return {"ok": False, "error": f"{type(bug).__name__}: {bug}"}
