"""Semantic versions and their ranges, as skopeo and regsync read them (Masterminds/semver, version 3).

A range consists of alternatives, separated by `||`. An alternative consists of comparisons, separated by
commas or spaces, all of which have to hold: `>=1.2, <2`, `~1.4`, `^2`, `1.2 - 1.4`, `1.x`. A comparison that
names no pre-release holds for no pre-release.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from lazyfs.core.digits import natural

_VERSION = re.compile(
    r"v?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
_PART = r"[0-9]+|[xX*]"
_COMPARED = re.compile(
    rf"(=>|=<|>=|<=|~>|!=|[=<>~^]?)\s*v?({_PART})(?:\.({_PART}))?(?:\.({_PART}))?"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]+)?"
)
_HYPHEN = re.compile(r"(\S+)\s+-\s+(\S+)")
_BETWEEN = re.compile(r"[\s,]*")


class Version(NamedTuple):
    """One version; its build metadata is left out, because it orders nothing."""

    major: int
    minor: int
    patch: int
    pre: str = ""


def parse_version(text: str) -> Version | None:
    """Returns the version that a tag states (`1.2`, `v1.2.3-rc.1`); None if it states none."""
    found = _VERSION.fullmatch(text)
    if not found:
        return None
    major, minor, patch = (natural(part or "0") or 0 for part in found.groups()[:3])
    return Version(major, minor, patch, found[4] or "")


def compare(one: Version, other: Version) -> int:
    """Returns -1, 0 or 1 by the order of versions."""
    if one[:3] != other[:3]:
        return 1 if one[:3] > other[:3] else -1
    if one.pre == other.pre:
        return 0
    if not one.pre or not other.pre:
        return 1 if not one.pre else -1
    left, right = one.pre.split("."), other.pre.split(".")
    for mine, theirs in zip(left, right, strict=False):
        if mine != theirs:
            numbers = natural(mine), natural(theirs)
            if numbers[0] is not None and numbers[1] is not None:
                return 1 if numbers[0] > numbers[1] else -1
            if (numbers[0] is None) != (numbers[1] is None):
                return 1 if numbers[0] is None else -1
            return 1 if mine > theirs else -1
    return (len(left) > len(right)) - (len(left) < len(right))


class _Comparison(NamedTuple):
    version: Version
    open_minor: bool
    """True if the minor number is a wildcard or absent."""
    open_patch: bool
    any: bool
    """True if the major number is a wildcard."""

    @property
    def open(self) -> bool:
        return self.open_minor or self.open_patch or self.any


def _equal(version: Version, wanted: _Comparison) -> bool:
    return _tilde(version, wanted) if wanted.open else compare(version, wanted.version) == 0


def _unequal(version: Version, wanted: _Comparison) -> bool:
    if not wanted.open:
        return compare(version, wanted.version) != 0
    if wanted.any or version.major != wanted.version.major:
        return not wanted.any
    return not wanted.open_minor and version.minor != wanted.version.minor


def _above(version: Version, wanted: _Comparison) -> bool:
    if not wanted.open or version.major != wanted.version.major:
        return compare(version, wanted.version) > 0
    return wanted.open_patch and version.minor > wanted.version.minor


def _up_to(version: Version, wanted: _Comparison) -> bool:
    if not wanted.open:
        return compare(version, wanted.version) <= 0
    if version.major != wanted.version.major:
        return version.major < wanted.version.major
    return wanted.open_minor or version.minor <= wanted.version.minor


def _tilde(version: Version, wanted: _Comparison) -> bool:
    if compare(version, wanted.version) < 0:
        return False
    if wanted.version[:3] == (0, 0, 0) and not wanted.open_minor and not wanted.open_patch:
        return True
    if version.major != wanted.version.major:
        return False
    return wanted.open_minor or version.minor == wanted.version.minor


def _caret(version: Version, wanted: _Comparison) -> bool:
    base = wanted.version
    if compare(version, base) < 0:
        return False
    if base.major > 0 or wanted.open_minor:
        return version.major == base.major
    if version.major > 0:
        return False
    if base.minor > 0 or wanted.open_patch:
        return version.minor == base.minor
    return version.minor == 0 and version.patch == base.patch


_HOLDS: dict[str, Callable[[Version, _Comparison], bool]] = {
    "": _equal,
    "=": _equal,
    "!=": _unequal,
    ">": _above,
    "<": lambda version, wanted: compare(version, wanted.version) < 0,
    ">=": lambda version, wanted: compare(version, wanted.version) >= 0,
    "=>": lambda version, wanted: compare(version, wanted.version) >= 0,
    "<=": _up_to,
    "=<": _up_to,
    "~": _tilde,
    "~>": _tilde,
    "^": _caret,
}


class VersionRange:
    """A set of versions."""

    def __init__(self, text: str) -> None:
        """Raises ValueError for a text that is no range."""
        self._any_of = [self._all_of(part) for part in text.split("||")]

    def holds(self, tag: str) -> bool:
        """Returns True if the tag states a version in the range."""
        version = parse_version(tag)
        return version is not None and any(
            all(
                not (version.pre and not wanted.version.pre) and _HOLDS[sign](version, wanted)
                for sign, wanted in part
            )
            for part in self._any_of
        )

    @staticmethod
    def _all_of(text: str) -> list[tuple[str, _Comparison]]:
        text = _HYPHEN.sub(r">=\1 <=\2", text.strip())
        found = []
        position = 0
        while position < len(text):
            compared = _COMPARED.match(text, position)
            if not compared:
                raise ValueError(f"{text[position : position + 20]!r} is no comparison like >=1.2")
            found.append((compared[1], _comparison(*compared.groups()[1:])))
            between = _BETWEEN.match(text, compared.end())
            assert between
            position = between.end()
            if position == compared.end() and position < len(text):
                raise ValueError(f"{text[position : position + 20]!r} is no comparison like >=1.2")
        if not found:
            raise ValueError("an empty range")
        return found


def _comparison(major: str, minor: str | None, patch: str | None, pre: str | None) -> _Comparison:
    numbers = [natural(part or "") for part in (major, minor, patch)]
    if numbers[0] is None:
        return _Comparison(Version(0, 0, 0, pre or ""), open_minor=False, open_patch=False, any=True)
    if numbers[1] is None:
        return _Comparison(Version(numbers[0], 0, 0, pre or ""), open_minor=True, open_patch=False, any=False)
    base = Version(numbers[0], numbers[1], numbers[2] or 0, pre or "")
    return _Comparison(base, open_minor=False, open_patch=numbers[2] is None, any=False)
