"""Asks questions of filesystems that may never answer, in child processes that may be left behind.

A system call on a mount whose daemon is frozen or malicious does not end, and cannot always be interrupted.
So a child process makes the call. If no answer comes in time, the child is killed; a child that hangs in the
kernel is left there.
"""

import contextlib
import fcntl
import json
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

_LARGEST = 1 << 20
"""The largest number of bytes in the answer to a question."""


class Answer(NamedTuple):
    """The answer to one question, or the fact that none came."""

    value: Any
    """The function's result: made of dict, list, str, int, bool and None."""
    came: bool
    """False if no answer came in time, or if the child ended without one."""


def ask_each(
    questions: Sequence[Callable[[], Any]],
    seconds: float,
    *,
    patience: float,
    enough: Callable[[Any], bool],
    own_session: bool = True,
) -> list[Answer]:
    """Asks all questions at the same time and waits `seconds` for the answers.

    Once `enough` returns True for an answer, the questions still open have at most `patience` seconds more.
    Each child has a session of its own, so that no terminal's signal reaches it. Without `own_session` each
    child stays in the caller's process group, by which the kernel recognises the processes of an automounter.
    """
    children = [_Child(question, own_session) for question in questions]
    end = time.monotonic() + seconds
    poll = select.poll()
    waiting = {child.pipe: child for child in children}
    for pipe in waiting:
        poll.register(pipe, select.POLLIN)
    while waiting and time.monotonic() < end:
        for pipe, _ in poll.poll(max(0, (end - time.monotonic()) * 1000)):
            child = waiting[pipe]
            if child.read():
                poll.unregister(pipe)
                del waiting[pipe]
                if child.answer.came and enough(child.answer.value):
                    end = min(end, time.monotonic() + patience)
    for child in children:
        child.leave()
    return [child.answer for child in children]


def ask_one(question: Callable[[], Any], seconds: float, *, own_session: bool = True) -> Answer:
    """Asks one question in a child process and waits `seconds` for the answer. `own_session`: False keeps the
    child in the caller's process group."""
    (answer,) = ask_each([question], seconds, patience=0, enough=lambda _: True, own_session=own_session)
    return answer


class _Child:
    """A child process that asks one question."""

    def __init__(self, question: Callable[[], Any], own_session: bool) -> None:
        self.answer = Answer(None, False)
        self._received = b""
        self._ended = False
        self.pipe, theirs = os.pipe2(os.O_CLOEXEC)
        self._pid = os.fork()
        if self._pid == 0:
            _answer(question, theirs, own_session)
        os.close(theirs)

    def read(self) -> bool:
        """Reads the part of the answer that has arrived. Returns True at the end of the answer."""
        part = os.read(self.pipe, 1 << 16)
        self._received += part
        if part and len(self._received) <= _LARGEST:
            return False
        self._ended = not part
        with contextlib.suppress(ValueError):
            self.answer = Answer(json.loads(self._received), True)
        return True

    def leave(self) -> None:
        """Kills the child without waiting for its end: a child that hangs in the kernel may stay for long."""
        os.close(self.pipe)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0 if self._ended else os.WNOHANG)


def _answer(question: Callable[[], Any], pipe: int, own_session: bool) -> None:
    """Asks the question in the child, which first closes the caller's descriptors so that it can be left
    behind."""
    code = 1
    try:
        if own_session:
            os.setsid()
        # The descriptor must not be one of 0 to 2, which are free if the caller has closed its streams.
        pipe = fcntl.fcntl(pipe, fcntl.F_DUPFD_CLOEXEC, 10)
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)
        ours = os.dup2(pipe, 3, inheritable=False)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        content = json.dumps(question()).encode()
        while content:
            content = content[os.write(ours, content) :]
        code = 0
    finally:
        os._exit(code)
