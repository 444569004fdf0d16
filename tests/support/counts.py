"""Repetitions of a test: few in the ordinary tier, the acceptance's number in the long one."""

import os


def count(short: int, long: int) -> int:
    """Returns `long` if tools/test --long runs the suite, else `short`."""
    return long if os.environ.get("LAZYFS_LONG") == "1" else short
