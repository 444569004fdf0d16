"""How often a test repeats: small in the ordinary tier, the acceptance's count in the long one."""

import os


def count(short: int, long: int) -> int:
    """`long` when tools/test --long runs the suite, `short` otherwise."""
    return long if os.environ.get("LAZYFS_LONG") == "1" else short
