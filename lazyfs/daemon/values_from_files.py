"""Reads URLs and chains given as `@FILE`, so that a password stays off the command line, which all users see.

`@/dev/fd/N` is a descriptor that the caller has open.
"""

import os
from typing import Any

from lazyfs.core.errors import UsageError

MARK = "@"
LARGEST = 64 << 10
"""The largest number of bytes in a file."""
_SECRET = ("source", "url", "proxy")
"""The settings whose URLs may hold a password."""


def read_value(text: str, name: str) -> str:
    """Returns the text, or for `@FILE` the only line of that file. Raises UsageError."""
    if not text.startswith(MARK):
        return text
    from lazyfs.system import bounded_file  # few settings are in files

    path = text.removeprefix(MARK)
    try:
        data = bounded_file.read_file(path, LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with NUL
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{name} @{path!s}: {reason}") from None
    lines = [line.strip() for line in os.fsdecode(data).splitlines() if line.strip()]
    if len(data) > LARGEST or len(lines) != 1:
        raise UsageError(f"{name} @{path}: must hold one line, the value, and not {len(lines)}")
    return lines[0]


def read_values(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings with each `@FILE` replaced by the file's URL or chain, also in [repositories].

    Raises UsageError.
    """
    found = dict(fields)
    for name, value in fields.items():
        if name in _SECRET and isinstance(value, str):
            found[name] = read_value(value, name)
        elif name == "repositories" and isinstance(value, dict):
            found[name] = {
                repository: read_values(given) if isinstance(given, dict) else given
                for repository, given in value.items()
            }
    return found
