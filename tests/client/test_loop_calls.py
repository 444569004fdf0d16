"""Calls that threads hand to the event loop."""

import logging
import threading
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from lazyfs.client import loop_calls
from lazyfs.client.loop_calls import LoopCalls


async def test_calls_are_made_later_in_order_whichever_thread_hands_them_over() -> None:
    calls, made = LoopCalls(), list[str]()

    def hand(name: str) -> None:
        calls.soon(lambda: made.append(f"{name}, {'here' if calls.is_here else 'elsewhere'}"))

    hand("one")
    hand("two")
    assert made == []
    await wait_all_tasks_blocked()
    assert made == ["one, here", "two, here"]
    await trio.to_thread.run_sync(hand, "three")
    await wait_all_tasks_blocked()
    assert made[2:] == ["three, here"]
    assert not await trio.to_thread.run_sync(lambda: calls.is_here)


async def test_a_loop_that_begins_no_tasks_any_more_makes_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, made = LoopCalls(), list[str]()
    monkeypatch.setattr(loop_calls, "begin", lambda *_, **__: False)
    for name in ("one", "two"):
        calls.soon(partial(made.append, name))
        await wait_all_tasks_blocked()
    assert made == ["one", "two"]


async def test_a_call_that_raises_is_logged_and_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    calls, made = LoopCalls(), list[str]()

    def bug() -> None:
        calls.soon(lambda: made.append("handed over by the call"))
        raise ValueError("a bug")

    calls.soon(bug)
    calls.soon(lambda: made.append("after it"))
    with caplog.at_level(logging.ERROR):
        await wait_all_tasks_blocked()
    assert made == ["after it", "handed over by the call"]
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["a bug"]


def test_after_the_end_of_the_loop_nothing_is_called_and_nothing_raised() -> None:
    made = list[str]()

    async def mount() -> LoopCalls:
        return LoopCalls()

    calls = trio.run(mount)
    reader = threading.Thread(target=calls.soon, args=[lambda: made.append("late")])
    reader.start()
    reader.join()  # an exception in it would fail the test
    assert made == []
