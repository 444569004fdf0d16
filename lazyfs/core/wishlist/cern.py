"""CERN's list, which DUCC reads: `version`, `user`, `cvmfs_repo`, `output_format`, and `input` with one
image a line.

An image is `[scheme://]registry[:port]/repository[:tag][@digest]`; `*` in the tag stands for any characters.
"""

import re

from lazyfs.core.wishlist import patterns
from lazyfs.core.wishlist.fields import items, know, text
from lazyfs.core.wishlist.findings import Findings, Refused, quoted
from lazyfs.core.wishlist.wish import PLAIN, Extras, TagChoice, Wish, compiled, reference_of
from lazyfs.core.wishlist.yaml_tree import Mapping

KEYS = ("version", "user", "cvmfs_repo", "output_format", "input")
PLACEHOLDERS = ("scheme", "registry", "repository", "tag", "digest", "reference", "image")
"""Names in `$(...)` that output_format may have."""
_PLACEHOLDER = re.compile(r"\$\(([^)]*)\)?")
_TAG_PATTERN = re.compile(r"[A-Za-z0-9_.*-]{1,128}")


def read(document: Mapping, findings: Findings) -> list[Wish]:
    """Returns the wishes of the list. Parts that cannot be read become findings."""
    know(document, KEYS, (), findings)
    _check_head(document, findings)
    wishes = []
    for node in items(document.values["input"], "input") if "input" in document.values else []:
        try:
            line, entry = node.line, text(node, "an image")
            wishes.append(wish_of(line, entry, findings))
        except Refused as refused:
            findings.add(refused.finding)
    return wishes


def wish_of(line: int, entry: str, findings: Findings, extras: Extras = PLAIN) -> Wish:
    """Returns the wish of one image as the list writes it. Raises Refused."""
    rest, registry = entry, ""
    if "://" in entry:
        scheme, _, rest = entry.partition("://")
        if scheme not in ("https", "http", "docker"):
            raise Refused(line, f"{quoted(entry)}: the scheme {quoted(scheme)} is unknown", "write https://")
        if scheme == "http":
            mend = "allow it in the service's configuration if the registry has no TLS"
            findings.notice(line, "http:// is read as https://: a list cannot switch TLS off", mend)
    registry, slash, path = rest.partition("/")
    if not slash or not path:
        raise Refused(line, f"{quoted(entry)} is no image", "write REGISTRY/REPOSITORY:TAG")
    if "@" in registry:
        raise Refused(line, f"{quoted(entry)}: a list holds no account", "give it to the service")
    path, at, digest = path.partition("@")
    repository, _, tag = path.partition(":")
    if "*" in repository or "*" in registry:
        raise Refused(line, f"{quoted(entry)}: a * stands in tags only", "write one line for each repository")
    if not tag and not digest:
        mend = f"write {repository}:latest, another tag, or :* for all"
        raise Refused(line, f"{quoted(entry)} names no {'digest' if at else 'tag'}", mend)
    if "*" not in tag:
        return Wish(line, reference_of(line, registry, repository, tag, digest), None, extras)
    if at:
        raise Refused(line, f"{quoted(entry)}: a digest and a * in the tag", "leave out one of them")
    if not _TAG_PATTERN.fullmatch(tag):
        raise Refused(line, f"{quoted(tag)} is no tag with *", "tags have letters, digits and . _ -")
    allow = (compiled(line, patterns.stars, tag),)
    return Wish(line, reference_of(line, registry, repository), TagChoice(tag, allow), extras)


def _check_head(document: Mapping, findings: Findings) -> None:
    """Adds findings for the faults of `version` and `output_format`."""
    try:
        version = document.values.get("version")
        if version is not None and text(version, "version") != "1":
            findings.error(version.line, f"version {quoted(text(version, 'version'))} is unknown", "write 1")
        target = document.values.get("output_format")
        if target is not None:
            findings.once("output_format", target.line, "output_format has no effect: nothing is pushed back")
            for name in _PLACEHOLDER.findall(text(target, "output_format")):
                if name not in PLACEHOLDERS:
                    shown = ", ".join(f"$({known})" for known in PLACEHOLDERS)
                    findings.error(target.line, f"$({name}) is no placeholder", f"there are {shown}")
    except Refused as refused:
        findings.add(refused.finding)
