"""The Open Science Grid's list: text, one image a line, comments on lines that begin with `#`.

A name of one part is an image of Docker Hub's `library`; a name of two parts, an image of a namespace of
Docker Hub's. If there are three or more parts, the first is the registry. The tag is `latest` by default; a
tag with `*` is a shell's pattern.
"""

import re
from collections.abc import Iterable

from lazyfs.core.oci.reference import DEFAULT_TAG, HUB
from lazyfs.core.wishlist import patterns
from lazyfs.core.wishlist.findings import Findings, Refused, quoted
from lazyfs.core.wishlist.wish import OSG, Extras, TagChoice, Wish, compiled, reference_of

_TAG_PATTERN = re.compile(r"[A-Za-z0-9_.*?!\[\]-]{1,200}")


def read(lines: Iterable[str], findings: Findings) -> list[Wish]:
    """Returns the wishes of the list. Lines that cannot be read become findings."""
    wishes = []
    for number, line in enumerate(lines, 1):
        stripped = line.strip()
        if not stripped or line.startswith("#"):
            continue
        try:
            wishes.append(_wish(number, stripped))
        except Refused as refused:
            findings.add(refused.finding)
    return wishes


def _wish(line: int, entry: str) -> Wish:
    if any(not character.isprintable() or character.isspace() for character in entry):
        mend = "write one image a line; # begins a comment at the start of a line only"
        raise Refused(line, f"{quoted(entry)} has spaces or characters that are not printable", mend)
    if "://" in entry:
        raise Refused(line, f"{quoted(entry)}: this list's images have no scheme", "leave out all up to ://")
    if "@" in entry:
        mend = "write a tag; CERN's and lazyfs's lists take digests"
        raise Refused(line, f"{quoted(entry)}: this list's images have no digest", mend)
    parts = entry.split("/")
    repository, colon, tag = parts[-1].partition(":")
    if colon and not tag:
        raise Refused(line, f"{quoted(entry)} names no tag", "leave out the colon for latest")
    registry = parts[0] if len(parts) > 2 else HUB
    above = parts[1:-1] if len(parts) > 2 else parts[:-1] or ["library"]
    if len(parts) == 2 and ("." in parts[0] or ":" in parts[0]):
        mend = f"write {parts[0]}/library/{parts[1]} or the namespace that it has"
        reason = "two parts are a namespace and an image of Docker Hub's, and no namespace has a dot or colon"
        raise Refused(line, f"{quoted(entry)}: {reason}", mend)
    path = "/".join([*above, repository])
    extras = Extras(layout=OSG)
    if "*" not in tag:
        return Wish(line, reference_of(line, registry, path, tag or DEFAULT_TAG), None, extras)
    if not _TAG_PATTERN.fullmatch(tag):
        raise Refused(line, f"{quoted(tag)} is no tag with *", "tags have letters, digits and . _ -")
    choice = TagChoice(tag, (compiled(line, patterns.shell, tag),))
    return Wish(line, reference_of(line, registry, path), choice, extras)
