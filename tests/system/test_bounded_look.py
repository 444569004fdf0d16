"""Questions that child processes answer for the caller. Some of the children never answer."""

import os
import signal
from collections.abc import Callable
from typing import Any

from lazyfs.system.bounded_look import Answer, ask_each
from tests.support.until import until


def ask(*questions: Callable[[], Any], seconds: float = 60, patience: float = 0) -> list[Answer]:
    return ask_each(questions, seconds, patience=patience, enough=bool)


def never() -> object:
    """Blocks like a system call on a dead mount: no signal but SIGKILL ends it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
    return os.read(os.pipe()[0], 1)


def test_answers_come_back_in_the_order_of_the_questions() -> None:
    name = os.fsdecode(b"not\xffutf8\n\r")
    answers = ask(lambda: None, lambda: {"names": [name]}, lambda: "x" * 200_000, patience=60)
    assert answers == [Answer(None, True), Answer({"names": [name]}, True), Answer("x" * 200_000, True)]


def test_who_never_answers_holds_nobody_up() -> None:
    """Without the timeout, this test would never end."""
    assert ask(never, lambda: "here", never) == [
        Answer(None, False),
        Answer("here", True),
        Answer(None, False),
    ]
    assert ask(never, lambda: "", seconds=5) == [Answer(None, False), Answer("", True)]


def test_a_question_that_fails_gives_no_answer() -> None:
    assert ask(lambda: 1 // 0, lambda: os._exit(0), lambda: "x" * (2 << 20)) == [Answer(None, False)] * 3


def test_no_process_is_left_where_the_kernel_lets_go_of_it() -> None:
    before = set(_children())
    ask(never, lambda: "here")

    def gone() -> bool:
        for pid in set(_children()) - before:
            os.waitpid(pid, os.WNOHANG)
        return set(_children()) == before

    until(gone)


def test_a_child_holds_none_of_the_callers_descriptors() -> None:
    """A child that outlives the call would otherwise keep the caller's pipe open, and the pipe's reader would
    wait for ever."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    (answer,) = ask(lambda: sorted(int(name) for name in os.listdir("/proc/self/fd")))
    assert len(answer.value) == 5  # 0 to 2, the answer's pipe, and the descriptor that listdir opens
    assert [os.readlink(f"/proc/self/fd/{n}") for n in (reading, writing)]
    os.close(reading)
    os.close(writing)


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(word) for word in file.read().split()]
