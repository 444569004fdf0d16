"""Numbers of bytes as people write and read them: 4G, 500M, 1.5 GiB. Powers of 1024."""

from lazyfs.core.digits import MOST
from lazyfs.core.errors import UsageError

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(text: str, name: str) -> int:
    """Returns the number of bytes of a size like `4G` or `500M`. Raises UsageError, whose message calls the
    size `name`."""
    digits, unit = text.rstrip("KMGTkmgtiB"), text.lstrip("0123456789.").upper().rstrip("B").rstrip("I")
    try:
        found = int(float(digits) * _UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        raise UsageError(f"{name} {text[:100]!r} is no size: write it like 4G or 500M") from None
    if not 0 <= found < MOST:
        raise UsageError(f"{name} {text[:100]!r} is more than any disk has: write it like 4G or 500M")
    return found


def shown_size(count: int) -> str:
    """Returns a number of bytes in the unit that fits, as in `1.5 GiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
