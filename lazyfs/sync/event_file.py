"""The event file: each run appends its events, one JSON object a line, for programs that watch the
service."""

import os
from collections.abc import Iterable

import msgspec

from lazyfs.core.errors import UsageError
from lazyfs.sync.report import Event

FILE = "events.jsonl"


TAIL = 1 << 20
"""Bytes at the end of the file in which the latest events are looked for."""


def latest_events(directory: str, most: int) -> list[Event]:
    """Returns the latest events, newest first, and no more than `most` of them. A line that cannot be read is
    skipped."""
    try:
        with open(os.path.join(directory, FILE), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - TAIL, 0))
            lines = file.read(TAIL).split(b"\n")
    except OSError:
        return []
    found = []
    for line in reversed(lines[1:] if size > TAIL else lines):
        try:
            found.append(msgspec.json.decode(line, type=Event))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        if len(found) == most:
            break
    return found


def append_events(directory: str, events: Iterable[Event]) -> None:
    """Appends events in one write, so that a reader sees whole lines. Raises UsageError."""
    data = b"".join(msgspec.json.encode(event) + b"\n" for event in events)
    if not data:
        return
    path = os.path.join(directory, FILE)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb", buffering=0) as file:
            file.write(data)
            os.fsync(file.fileno())
    except OSError as error:
        raise UsageError(f"event file {path}: {error.strerror}") from None
