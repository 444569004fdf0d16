"""The faults of a wishlist, line by line: each finding names the line, the reason and the remedy."""

from typing import NamedTuple

from lazyfs.core.printable import printable
from lazyfs.core.shown_address import without_account

LONGEST = 400
"""The largest number of characters of a reason: a value that it quotes may have 8 million."""


class Finding(NamedTuple):
    """One remark on a wishlist."""

    line: int
    """From 1; 0 for the whole list."""
    reason: str
    mend: str = ""
    error: bool = True
    """False for a notice: the wishes of the line remain valid."""

    def text(self, name: str) -> str:
        """Returns the finding on one line, as compilers write theirs: `name:line: reason: mend`."""
        place = f"{name}:{self.line}" if self.line else name
        return f"{place}: {self.reason}" + (f": {self.mend}" if self.mend else "")


class Refused(Exception):
    """A part of a wishlist cannot be read; its other parts can."""

    def __init__(self, line: int, reason: str, mend: str = "") -> None:
        super().__init__(reason)
        self.finding = Finding(line, reason, mend)


class Findings:
    """Collects findings while a list is read, up to MOST."""

    MOST = 1000
    """The largest number of findings that are kept. Further ones are only counted: a file of another kind
    would give one for each line."""

    def __init__(self) -> None:
        self._found: list[Finding] = []
        self._said: set[str] = set()
        self._more = 0

    def error(self, line: int, reason: str, mend: str = "") -> None:
        """Adds an error: the line gives no wish. `mend`: the remedy."""
        self.add(Finding(line, reason, mend))

    def notice(self, line: int, reason: str, mend: str = "") -> None:
        """Adds a notice: a part of the line has no effect. `mend`: the remedy."""
        self.add(Finding(line, reason, mend, error=False))

    def once(self, key: str, line: int, reason: str) -> None:
        """Adds a notice, unless one with the same key was added before."""
        if key not in self._said:
            self._said.add(key)
            self.notice(line, reason)

    def add(self, finding: Finding) -> None:
        """Adds a finding."""
        if len(self._found) < self.MOST:
            self._found.append(finding._replace(reason=printable(finding.reason, LONGEST)))
        else:
            self._more += 1

    def all(self) -> tuple[Finding, ...]:
        """Returns the findings in the order of lines."""
        found = sorted(self._found, key=lambda finding: finding.line)
        if self._more:
            found.append(Finding(0, f"{self._more} more findings", "mend these first"))
        return tuple(found)


def quoted(text: str) -> str:
    """Returns a value of a list in quotes, without an account and cut to 80 printable characters, for a
    message."""
    return repr(printable(without_account(text), 80))
