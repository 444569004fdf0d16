"""Moments as text, in UTC."""

from datetime import UTC, datetime


def minute(seconds: float) -> str:
    """Returns a time for people, to the minute: `2026-01-31 23:59 UTC`. `seconds`: since 1970."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def rfc3339(seconds: float) -> str:
    """Returns a time for scripts, to the second: `2026-01-31T23:59:59Z`. `seconds`: since 1970."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
