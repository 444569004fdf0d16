"""The ways people name a revision: its number, a date, or the name by which it is kept."""

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from lazyfs.core.digits import natural
from lazyfs.core.errors import UnsupportedFormat, UsageError
from lazyfs.core.history.head import History
from lazyfs.core.history.records import PastRevision, Read
from lazyfs.core.params import READABLE, Revision

NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,127}")
"""Names of revisions begin with a letter, so that none is a number or a date."""
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_HELP = "give a revision's number, a date such as 2026-05-01 or 2026-05-01T12:30Z, or the name it is kept by"


class RevisionChoice(NamedTuple):
    """A revision that somebody asks for."""

    text: str
    """The choice as it was written."""
    number: int | None = None
    time: int | None = None
    """The last second of the date that was asked for; it means the revision that was the newest at this
    second."""


def parse_choice(text: str) -> RevisionChoice:
    """Returns the choice that the text states. A date alone means the end of that day, UTC; a time without a
    zone is UTC. Raises UsageError for a text that is no number, date or name."""
    number = natural(text)
    if number is not None:
        return RevisionChoice(text, number=number)
    if NAME.fullmatch(text):
        return RevisionChoice(text)
    try:
        moment = datetime.fromisoformat(text)
        if _DAY.fullmatch(text):
            moment += timedelta(days=1, seconds=-1)
        return RevisionChoice(text, time=int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()))
    except (ValueError, OverflowError):
        raise UsageError(f"revision {text!r}: {_HELP}") from None


def check_name(name: str) -> str:
    """Returns the name of a revision unchanged. Raises UsageError for an invalid name."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"name {name!r}: use letters, digits, '.', '_' and '-', starting with a letter, 128 at most"
        )
    return name


def as_revision(past: PastRevision, newest: Revision) -> Revision:
    """Returns the older revision `past` as a Revision. Its fields for the repository's name, the parameters
    and the history are those of the newest revision, whose history proves the older one. Raises
    UnsupportedFormat."""
    if past.version not in READABLE:
        raise UnsupportedFormat(
            f"revision {past.number} has format version {past.version}; this lazyfs reads versions "
            f"{READABLE[0]} to {READABLE[-1]}"
        )
    return Revision(newest.name, past.number, past.time, past.root, newest.params, newest.history)


def choose(history: History, choice: RevisionChoice, read: Read) -> PastRevision:
    """Returns the revision that was asked for. Raises UsageError if there is no such revision, and the
    exceptions of `History.find`."""
    if choice.number is not None:
        found = history.find(choice.number, read)
        if found is None:
            last = history.newest.number if history.newest else 0
            raise UsageError(f"there is no revision {choice.number}, only {history.first_number} to {last}")
        return found
    if choice.time is not None:
        found = history.at(choice.time, read)
        if found is None:
            raise UsageError(f"the repository had no revision on {choice.text} yet")
        return found
    kept = next((kept for kept in history.names if kept.name == choice.text), None)
    found = history.find(kept.number, read) if kept else None
    if found is None:
        names = ", ".join(kept.name for kept in history.names) or "none"
        raise UsageError(f"no revision is kept as {choice.text}; kept ones: {names}")
    return found
