"""Reads traces of mounts: the objects that starts have touched."""

import json
from collections.abc import Iterable

from lazyfs.core.digest import Digest, parse_hex
from lazyfs.core.errors import FormatError, UsageError

MAX_LINE = 1 << 16
"""Characters of one line of a trace: a path has 4,096 bytes."""
Touched = dict[Digest, None]
"""Digests in the order in which they were first touched."""


def read_traces(paths: Iterable[str]) -> Touched:
    """Reads the objects that `lazyfs mount --trace` recorded. Raises UsageError for a file that is not a
    trace."""
    touched: Touched = {}
    for path in paths:
        try:
            with open(path, encoding="utf-8") as lines:
                for number, line in enumerate(iter(lambda: lines.readline(MAX_LINE), ""), 1):
                    touched.setdefault(_object(line, f"{path}: line {number}"))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"trace {path}: {error}") from None
    return touched


def _object(line: str, where: str) -> Digest:
    try:
        event = json.loads(line)
        return parse_hex(event[3])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, FormatError):
        raise UsageError(f"{where} is no line of a trace; write one with lazyfs mount --trace") from None
