"""Reads traces of mounts: the objects and small files that starts have touched."""

import json
from collections.abc import Iterable

from lazyfs.core.digest import Digest, parse_hex
from lazyfs.core.errors import FormatError, UsageError

MAX_LINE = 1 << 16
"""The largest number of characters of one line of a trace; a path has at most 4,096 bytes."""
Trace = dict[Digest, None]
"""Digests of objects and of small files, in the order in which they were first touched."""


def read_traces(paths: Iterable[str]) -> Trace:
    """Reads what `lazyfs mount --trace` recorded. Raises UsageError for a file that is not a trace."""
    touched: Trace = {}
    packs: set[Digest] = set()
    for path in paths:
        try:
            with open(path, encoding="utf-8") as lines:
                for number, line in enumerate(iter(lambda: lines.readline(MAX_LINE), ""), 1):
                    content, at = _content(line, f"{path}: line {number}")
                    touched.setdefault(content)
                    if content != at:
                        packs.add(at)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"trace {path}: {error}") from None
    # A line `fetch` names the pack that was waited for, and not the files that were read from it.
    return {digest: None for digest in touched if digest not in packs}


def _content(line: str, where: str) -> tuple[Digest, Digest]:
    """Returns (the small file or object that the read in this line touched, the object that holds it). Traces
    of earlier versions name only the object, which is then returned twice. `where`: the trace's file and the
    number of the line, for errors."""
    try:
        event = json.loads(line)
        at = parse_hex(event[3])
        return (parse_hex(event[7]) if len(event) > 7 else at), at
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, FormatError):
        raise UsageError(f"{where} is no line of a trace; write one with lazyfs mount --trace") from None
