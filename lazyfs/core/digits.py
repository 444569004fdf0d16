"""Decimal numbers in text of strangers: an HTTP field, a tar header, a page of a registry.

`int()` is not fit for them. It accepts `1_000`, signs, spaces and the digits of every script. A check with
`str.isdigit` does not help: `int()` raises ValueError for more than 4,300 digits.
"""

MOST = (1 << 63) - 1
"""The largest number that `natural` and `hexadecimal` return: no count of bytes, seconds or versions is
larger, and no kernel takes more."""

_DIGITS = frozenset("0123456789")
_WORTH = 19
"""The number of decimal digits of MOST."""
_HEX = frozenset("0123456789abcdefABCDEF")


def natural(text: str | bytes) -> int | None:
    """Returns the number that these ASCII digits state, or MOST if that is smaller. Returns None for any
    other text, also for the empty one. Takes time in proportion to the text's length only."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    if not text or not _DIGITS.issuperset(text):
        return None
    digits = text.lstrip("0")
    return min(int(digits or "0"), MOST) if len(digits) <= _WORTH else MOST


def hexadecimal(text: str | bytes) -> int | None:
    """Returns the number that these hexadecimal digits state, as in the chunk sizes of HTTP/1.1, or MOST if
    that is smaller. Returns None for any other text, also for the empty one."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    if not text or not _HEX.issuperset(text):
        return None
    digits = text.lstrip("0")
    return min(int(digits or "0", 16), MOST) if len(digits) <= 16 else MOST
