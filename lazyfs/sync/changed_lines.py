"""The lines of a list that a merge request changes, according to Git."""

import os
import re
import subprocess

from lazyfs.core.errors import UsageError
from lazyfs.core.printable import printable

DEADLINE = 60.0
"""Timeout in seconds for Git, which compares one file."""
_HUNK = re.compile(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@")


def changed_lines(path: str, since: str) -> set[int]:
    """Returns the numbers of the lines of a file that are new or changed since the Git revision `since`.
    Raises UsageError."""
    if since.startswith("-"):
        raise UsageError(f"--since {since!r} is no revision of Git")
    folder, name = os.path.split(os.path.abspath(path))
    command = [
        "git", "-C", folder, "-c", "core.fsmonitor=false", "diff", "--unified=0", "--no-color",
        "--no-ext-diff", "--no-textconv", since, "--", name,
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, errors="replace", timeout=DEADLINE
        )
    except FileNotFoundError:
        raise UsageError("--since needs git, which is not installed") from None
    except subprocess.TimeoutExpired:
        raise UsageError(f"--since: git does not answer within {DEADLINE:.0f} s") from None
    if done.returncode:
        raise UsageError(f"--since {since}: git: {printable(done.stderr)}")
    lines: set[int] = set()
    for start, count in _HUNK.findall(done.stdout):
        lines.update(range(int(start), int(start) + int(count or 1)))
    return lines
