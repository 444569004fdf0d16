"""Revisions and their changes as `log` and `rollback` print them."""

import os
from collections.abc import Iterable, Iterator
from typing import Any

from lazyfs.core.digest import SIZE
from lazyfs.core.history.records import Change, PastRevision
from lazyfs.core.moments import rfc3339
from lazyfs.core.params import FLAT

_SIGNS = {"came": "+", "went": "-", "moved": "~"}
SHORT = 12
"""The number of hex digits that are shown of a digest."""


def change_lines(changes: Iterable[Change]) -> Iterator[str]:
    """Yields a line for each change: its sign (+, -, ~ or *), the path in the tree, and the digests before
    and after."""
    for change in changes:
        if is_profile(change):
            image = os.path.basename(os.fsdecode(change.path))[:SHORT]
            yield f"  * profile of {image} {change.kind}"
            continue
        digests = " -> ".join(shown_digest(part)[:SHORT] for part in (change.old, change.new) if part)
        yield f"  {_SIGNS[change.kind]} {os.fsdecode(change.path)}  {digests}"


def changes_shown(changes: Iterable[Change]) -> list[dict[str, Any]]:
    """Returns the changes as values for JSON."""
    return [
        {
            "change": change.kind,
            "what": "profile" if is_profile(change) else "image",
            "path": os.fsdecode(change.path),
            "old": shown_digest(change.old),
            "new": shown_digest(change.new),
        }
        for change in changes
    ]


def is_profile(change: Change) -> bool:
    """Returns True if the change concerns an image's profile."""
    return change.path.startswith(FLAT + b"/")


def shown_digest(part: bytes) -> str:
    """Returns one side of a change as text: a digest in hex, or the target of a link as it is."""
    return part.hex() if len(part) == SIZE else os.fsdecode(part)


def revision_line(past: PastRevision, names: Iterable[str], note: str = "") -> str:
    """Returns the line for one revision: its number, its time, its names, the revision whose content it
    restores if it comes from a rollback, and then `note`."""
    kept = "".join(f" ({name})" for name in names)
    restored = f"  rolled back to {past.restored}" if past.restored else ""
    return f"revision {past.number}  {rfc3339(past.time)}{kept}{restored}{note}"
