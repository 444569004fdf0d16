"""The number of repetitions in a test: few in the ordinary tier, the full number in the long tier."""

import os
from typing import TypeVar

T = TypeVar("T", bool, int, float, str)


def count(short: T, long: T) -> T:
    """Returns `long` if tools/test --long runs the suite, else `short`."""
    return long if os.environ.get("LAZYFS_LONG") == "1" else short
