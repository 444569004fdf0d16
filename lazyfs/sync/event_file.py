"""The event file: one JSON object a line, appended at each run, for whoever watches the service."""

import os
from collections.abc import Iterable

import msgspec

from lazyfs.core.errors import UsageError
from lazyfs.sync.report import Event

FILE = "events.jsonl"


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
