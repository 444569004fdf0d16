"""Reads a wishlist of any format; the content shows which format it is."""

import re
from collections.abc import Callable
from typing import NamedTuple

from lazyfs.core.wishlist import cern, osg, own, regsync, skopeo
from lazyfs.core.wishlist.fields import text as text_of
from lazyfs.core.wishlist.findings import Finding, Findings, Refused, quoted
from lazyfs.core.wishlist.wish import Wish
from lazyfs.core.wishlist.yaml_tree import Mapping, Scalar, parse_yaml

MOST_BYTES = 8 << 20
"""The largest number of bytes of a list: 100,000 wishes of 80 bytes."""
_KEY_LINE = re.compile(r"""(?:[^\s#'"\[{,-][^\s]*|"[^"]*"|'[^']*'|[\w.-]+):(?:\s|$)""")
_YAML_MARK = re.compile(r"-(?:\s|$)|---|\.\.\.|%YAML")


class Wishlist(NamedTuple):
    """A list as it was read."""

    name: str
    """The list's file or URL, as messages call it."""
    format: str
    """`cern`, `osg`, `skopeo`, `regsync` or `lazyfs`; empty if it is none of them."""
    wishes: tuple[Wish, ...]
    findings: tuple[Finding, ...]
    whole: bool
    """False if the text is no wishlist, or is only a part of one. Then an image that the list does not name
    may still be wished."""

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.error]

    @property
    def complete(self) -> bool:
        """True if every line was understood. If it is False, images that the list does not name must still be
        treated as wished."""
        return self.whole and bool(self.wishes) and not self.errors


def read_wishlist(data: bytes, name: str) -> Wishlist:
    """Reads a list. Never raises: each part that cannot be read becomes a finding of the list."""
    findings = Findings()
    try:
        text = _text(data)
        kind, wishes = _read(text, findings)
        _doubt(text, kind, wishes, findings)
        whole = True
    except Refused as refused:
        findings.add(refused.finding)
        kind, wishes, whole = "", [], False
    return Wishlist(name, kind, tuple(wishes), findings.all(), whole)


def _text(data: bytes) -> str:
    if len(data) > MOST_BYTES:
        raise Refused(0, f"a list of {len(data)} bytes, over {MOST_BYTES}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Refused(line, "not UTF-8", "save the list as UTF-8") from None
    text = text.replace("\r\n", "\n")
    if text.lstrip()[:1] == "<":
        raise Refused(
            1, "an HTML or XML page, no list", "does its address need a login, or is it a raw file?"
        )
    if not any(line.strip() and not line.lstrip().startswith("#") for line in text.split("\n")):
        raise Refused(0, "the list is empty", "to give a list up, name it with --forget")
    return text


def _read(text: str, findings: Findings) -> tuple[str, list[Wish]]:
    lines = text.split("\n")
    if not _is_yaml(lines):
        return "osg", osg.read(lines, findings)
    document = parse_yaml(text, findings)
    if isinstance(document, Scalar) and document.absent:
        raise Refused(0, "the list is empty", "to give a list up, name it with --forget")
    if not isinstance(document, Mapping):
        raise Refused(document.line, "no key at the top", "write `input:` above a list of CERN's kind")
    kind, read = _format(document)
    if "lazyfs" in document.values and text_of(document.values["lazyfs"], "lazyfs") != "1":
        version = quoted(text_of(document.values["lazyfs"], "lazyfs"))
        raise Refused(document.lines["lazyfs"], f"version {version} of lazyfs's list is unknown", "write 1")
    return kind, read(document, findings)


def _doubt(text: str, kind: str, wishes: list[Wish], findings: Findings) -> None:
    """Adds an error for a text that may be only the beginning of a list, or a server's answer of one word."""
    last = text.rstrip()
    if not text.endswith("\n") and (kind == "osg" or last[-1:] not in ("}", "]")):
        reason = (
            "no newline at the end: the list may be cut, so that what it lacks counts as wished as before"
        )
        findings.error(last.count("\n") + 1, reason, "end its last line with a newline")
    entries = [line.strip() for line in text.split("\n") if line.strip() and not line.startswith("#")]
    if kind == "osg" and len(wishes) == len(entries) == 1 and not any(mark in entries[0] for mark in ":/"):
        reason = f"{quoted(entries[0])} alone may be a server's answer, so that it removes nothing"
        findings.error(wishes[0].line, reason, "if it is an image, write its tag too")


def _is_yaml(lines: list[str]) -> bool:
    """Returns True if a text with these lines is YAML. This is so if most of its lines without indentation
    are keys or items of YAML; the name of an image is neither."""
    edge = [line for line in lines if line.strip() and line[:1] not in ("#", " ", "\t")]
    marks = sum(bool(_KEY_LINE.match(line) or _YAML_MARK.match(line)) for line in edge)
    return 2 * marks > len(edge) or bool(edge and edge[0].startswith(("{", "[")))


def _format(document: Mapping) -> tuple[str, Callable[[Mapping, Findings], list[Wish]]]:
    keys = document.lines
    if "lazyfs" in keys:
        return "lazyfs", own.read
    if "input" in keys or "cvmfs_repo" in keys:
        return "cern", cern.read
    if "sync" in keys:
        return "regsync", regsync.read
    known = (*skopeo.KEYS, *skopeo.IDLE)
    if any(
        isinstance(node, Mapping) and any(key in known for key in node.lines)
        for node in document.values.values()
    ):
        return "skopeo", skopeo.read
    line = min(keys.values(), default=0)
    shown = ", ".join(quoted(key) for key in list(keys)[:3])
    mend = "CERN's has input, skopeo's registries with images, regsync's sync, lazyfs's own lazyfs: 1"
    raise Refused(line, f"a wishlist of no known kind (keys {shown})", mend)
