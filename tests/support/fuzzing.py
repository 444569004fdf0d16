"""Fuzzing for a time: LAZYFS_FUZZ_SECONDS=600 makes each target run for so long, with new inputs in each
round."""

import functools
import os
import time
from collections.abc import Callable


def for_seconds(test: Callable[[], None]) -> Callable[[], None]:
    """Repeats a test of Hypothesis's until the time is over, and prints how often; runs it once if no time is
    asked for."""

    @functools.wraps(test)
    def repeated() -> None:
        seconds = float(os.environ.get("LAZYFS_FUZZ_SECONDS", "0"))
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
            while time.monotonic() - started < seconds:
                test()
        finally:
            test.hypothesis.inner_test = inner  # type: ignore[attr-defined]
            took = time.monotonic() - started
            print(f"{test.__name__}: {executions} executions in {took:.0f} s")

    return repeated
