"""Formats the findings of wishlists for a CI that shows them beside the lines of a merge request."""

from collections.abc import Iterable, Iterator

import msgspec

from lazyfs.core.digest import sha256
from lazyfs.core.wishlist.findings import Finding

STYLES = ("text", "github", "gitlab")
"""Forms of output. text: `file:line: reason: remedy`, as compilers write. github: commands of a workflow's
log. gitlab: a code quality report."""

_GITHUB = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_GITHUB_FIELD = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A", ":": "%3A", ",": "%2C"})


def annotated(found: Iterable[tuple[str, Finding]], style: str) -> Iterator[str]:
    """Yields the lines to print for findings. `found`: pairs of a list's name and a finding of it."""
    if style == "gitlab":
        yield msgspec.json.encode([_issue(name, finding) for name, finding in found]).decode()
        return
    for name, finding in found:
        if style == "text":
            yield finding.text(name) if finding.error else f"{finding.text(name)} (a notice)"
            continue
        level = "error" if finding.error else "warning"
        line = f",line={finding.line}" if finding.line else ""
        message = finding.reason + (f": {finding.mend}" if finding.mend else "")
        yield f"::{level} file={name.translate(_GITHUB_FIELD)}{line}::{message.translate(_GITHUB)}"


def _issue(name: str, finding: Finding) -> dict[str, object]:
    text = finding.text(name)
    return {
        "description": finding.reason + (f": {finding.mend}" if finding.mend else ""),
        "check_name": "wishlist",
        "fingerprint": sha256(text.encode()).hex()[:40],
        "severity": "major" if finding.error else "info",
        "location": {"path": name, "lines": {"begin": max(finding.line, 1)}},
    }
