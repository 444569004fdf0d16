"""Fuzzing for a fixed time: with LAZYFS_FUZZ_SECONDS=600, each target runs in rounds with new inputs for 600
seconds."""

import functools
import os
import time
from collections.abc import Callable
from typing import Final

from tests.support.counts import count

SECONDS: Final = float(os.environ.get("LAZYFS_FUZZ_SECONDS", "0"))
"""Seconds for which each target runs; 0 for a single round."""
TIMEOUT: Final = count(120, 1800) + 3 * SECONDS


def examples(short: int, long: int) -> int:
    """Returns the number of Hypothesis's inputs in one round: `short` if rounds are repeated or in the
    ordinary tier, else `long`."""
    return short if SECONDS else count(short, long)


def for_seconds(test: Callable[[], None]) -> Callable[[], None]:
    """Repeats a Hypothesis test until SECONDS have passed, and prints the number of runs. If SECONDS is 0,
    runs it once."""

    @functools.wraps(test)
    def repeated() -> None:
        inner = test.hypothesis.inner_test  # type: ignore[attr-defined]
        executions = 0

        @functools.wraps(inner)
        def counted(*arguments: object, **named: object) -> None:
            nonlocal executions
            executions += 1
            inner(*arguments, **named)

        test.hypothesis.inner_test = counted  # type: ignore[attr-defined]
        started = time.monotonic()
        try:
            test()
            while time.monotonic() - started < SECONDS:
                test()
        finally:
            test.hypothesis.inner_test = inner  # type: ignore[attr-defined]
            took = time.monotonic() - started
            print(f"{test.__name__}: {executions} executions in {took:.0f} s")

    return repeated
