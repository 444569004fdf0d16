"""The control socket: one JSON line asked, one JSON line answered.

A request is {"do": NAME, ...}; the answer {"ok": true, ...} or {"ok": false, "error": "..."}. Who may connect
is what the socket's mode 0600 says.
"""

import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import trio

from lazyfs.core.errors import LazyfsError, UsageError
from lazyfs.daemon.runtime_directory import socket_path

MAX_LINE = 1 << 20
"""Bytes of a request."""

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
log = logging.getLogger(__name__)


def ask(mountpoint: str, request: Mapping[str, Any], timeout: float = 60.0) -> dict[str, Any]:
    """One request to the daemon of a mount point; blocking. Raises UsageError if none answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(timeout)
        try:
            line.connect(socket_path(mountpoint))
            line.sendall(json.dumps(request).encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                part = line.recv(1 << 16)
                if not part:
                    break
                answer += part
        except (FileNotFoundError, ConnectionError):
            raise UsageError(f"no lazyfs daemon of this user answers for {mountpoint}") from None
        except OSError as error:
            raise UsageError(f"the daemon of {mountpoint} does not answer: {error}") from None
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        raise UsageError(f"the daemon of {mountpoint} ended while it was asked") from None
    if not isinstance(found, dict):
        raise UsageError(f"what answers for {mountpoint} is no lazyfs daemon")
    if not found.get("ok"):
        raise UsageError(f"{mountpoint}: {found.get('error', 'refused')}")
    return found


class Line(NamedTuple):
    """A listening socket and the file it has."""

    plain: socket.socket
    path: str
    inode: int


def listen(path: str) -> Line:
    """A listening socket at `path`, for this user only; one that a dead daemon left there is replaced."""
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        if os.path.lexists(path):
            os.unlink(path)
        plain.bind(path)
    finally:
        os.umask(before)
    plain.listen(16)
    return Line(plain, path, os.lstat(path).st_ino)


def remove_dead(mountpoint: str) -> None:
    """Removes the socket of a daemon that could not do so itself: killed, or no longer root by then."""
    path = socket_path(mountpoint)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line,
        suppress(FileNotFoundError, PermissionError),
    ):
        try:
            line.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)


async def serve(
    line: Line,
    handlers: Mapping[str, Handler],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answers on a listening socket until cancelled, then removes it."""

    async def answer(stream: trio.SocketStream) -> None:
        await _answer(stream, handlers)

    with line.plain:
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(line.plain))
        task_status.started()
        try:
            await trio.serve_listeners(answer, [listener])
        finally:
            # A daemon that has replaced this one may have put its own socket there.
            with suppress(FileNotFoundError, PermissionError):
                if os.lstat(line.path).st_ino == line.inode:
                    os.unlink(line.path)


async def _answer(stream: trio.SocketStream, handlers: Mapping[str, Handler]) -> None:
    async with stream:
        try:
            with trio.fail_after(600):
                await stream.send_all(_encoded(await _handle(await _line(stream), handlers)))
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            return  # whoever asked has gone
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
