"""Fields in the head of a registry's answers."""

import email.utils
from collections.abc import Mapping

from lazyfs.core.digits import natural


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Returns the seconds to wait that the field Retry-After states, as a number or as a date; None if the
    head has no such field. `now`: seconds since 1970."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return max(float(text[:12]), 0.1)
    try:
        return max(email.utils.parsedate_to_datetime(text).timestamp() - now, 0.1)
    except (ValueError, OverflowError):
        return None


def stated_length(headers: Mapping[str, str]) -> int | None:
    """Returns the length of the body that the field Content-Length states, in bytes; None if the head has no
    such field, or a field that is no number. One number several times counts as once."""
    stated = {natural(part.strip()) for part in headers.get("Content-Length", "").split(",")}
    return stated.pop() if len(stated) == 1 else None


def resumed_at(headers: Mapping[str, str]) -> int | None:
    """Returns the offset of the first byte of a partial answer; None if its Content-Range does not state
    it."""
    unit, _, rest = headers.get("Content-Range", "").partition(" ")
    first = rest.partition("-")[0].strip()
    return int(first) if unit == "bytes" and first.isascii() and first.isdigit() and len(first) < 19 else None
