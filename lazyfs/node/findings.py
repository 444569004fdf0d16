"""A fault that `lazyfs doctor` has found."""

from enum import StrEnum

import msgspec


class Level(StrEnum):
    """The weight of a finding."""

    ERROR = "error"
    """Mounts or programs fail because of it, or soon will."""
    WARNING = "warning"
    """Mounts work, but something that was asked for is missing, or they will not work for long."""
    NOTE = "note"
    """Nothing is wrong, but it may surprise a user. The exit code ignores it."""


class Finding(msgspec.Struct, frozen=True):
    """One fault and its remedy."""

    level: Level
    wrong: str
    """One line: the thing, and its fault. Without passwords."""
    do: str
    """One line: the remedy."""
    check: str = ""
    """The name of the check, in the table of checks."""
