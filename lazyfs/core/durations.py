"""Lengths of time as people write them: 90s, 15m, 1h, 7d."""

import re

from lazyfs.core.errors import UsageError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"([0-9]{1,9})([smhdw])")


def parse_duration(text: str, name: str) -> float:
    """Returns the seconds of a length of time like `15m` or `1h`. Raises UsageError, whose message calls the
    value `name`."""
    found = _DURATION.fullmatch(text)
    if not found:
        raise UsageError(f"{name} {text[:100]!r} is no length of time: write it like 90s, 15m, 1h or 7d")
    return float(int(found[1]) * _UNITS[found[2]])
