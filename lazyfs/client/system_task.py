"""Begins tasks for which no caller waits."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio


def begin(function: Callable[..., Awaitable[object]], *args: Any, name: str) -> bool:
    """Begins a task in the event loop that it is called in, and returns at once. Returns False if the loop is
    ending: a reader thread may have asked for the task a moment before."""
    try:
        trio.lowlevel.spawn_system_task(function, *args, name=name)
    except RuntimeError:  # trio takes no more tasks; if this were raised, the run would end as by a bug
        return False
    return True
