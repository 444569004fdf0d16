"""The result file of the profiles benchmark."""

import msgspec

from benchmarks.facts import Facts
from benchmarks.startup.start import Start


class Row(msgspec.Struct, frozen=True):
    """The starts of one program on one side."""

    program: str
    side: str
    starts: list[Start]


class Guessed(msgspec.Struct, frozen=True):
    """The guessed profile of an image."""

    program: str
    plain_bytes: int
    """Plaintext bytes of what the profile lists."""
    wasted: float
    """The share of these bytes that the start did not touch."""


class Inherited(msgspec.Struct, frozen=True):
    """The profile that a new tag has inherited."""

    touched: int
    """The number of objects and small files that the new tag's start touches."""
    changed: float
    """The share of them that the old tag does not have."""
    ahead: float
    """The share of them that the inherited profile brings."""
    changed_bytes: int
    """Stored bytes of those that the old tag does not have."""


class Result(msgspec.Struct, frozen=True):
    """The result of a run."""

    benchmark: str
    command: str
    facts: Facts
    line: str
    guessed: list[Guessed]
    inherited: Inherited
    rows: list[Row]
