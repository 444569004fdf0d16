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
from typing import Any

import trio

from lazyfs.core.errors import LazyfsError
from lazyfs.daemon.control_socket import ListeningSocket

MAX_LINE = 1 << 20
"""The largest number of bytes in a request."""
SECONDS = 600
"""Timeout of a connection from its first byte to its last, in seconds."""

STRANGERS = 32
"""The largest number of connections of other users that are served at one time."""
STRANGERS_SECONDS = 10
"""Timeout of a connection of another user, in seconds."""
_CREDENTIALS = struct.Struct("iII")

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
log = logging.getLogger(__name__)


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
    """Returns the id of the user at the other end, as the kernel states it."""
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
