"""Patterns for tags in each format's own meaning, all run by RE2: time linear in the tag's length.

| from | pattern | matched against |
|---|---|---|
| CERN | `*` | the whole tag |
| OSG | `*`, `?`, `[...]` (fnmatch) | the whole tag |
| skopeo | regular expression | anywhere in the tag |
| regsync | regular expression | the whole tag |
"""

from collections.abc import Callable

import re2

from lazyfs.core.wishlist.semver import VersionRange

MOST_LENGTH = 1000
"""The largest number of characters of a pattern."""
MEMORY = 4 << 20
"""The largest number of bytes of a compiled pattern and its automaton. Beyond it RE2 falls back to a slower
automaton, which still takes linear time."""

Pattern = Callable[[str], bool]
"""A function that returns True if it matches the given tag."""


def _compile(expression: str) -> "re2._Regexp[str]":
    if len(expression) > MOST_LENGTH:
        raise ValueError(f"a pattern of {len(expression)} characters, over {MOST_LENGTH}")
    options = re2.Options()
    options.max_mem = MEMORY
    options.log_errors = False
    try:
        return re2.compile(expression, options)
    except re2.error as error:
        reason = error.args[0] if error.args else error
        said = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(said) from None


def stars(text: str) -> Pattern:
    """Returns the pattern in which `*` stands for any characters, and every other character for itself.
    Raises ValueError, as do the other functions that return a pattern."""
    return whole(".*".join(re2.escape(part) for part in text.split("*")))


def shell(text: str) -> Pattern:
    """Returns a shell's pattern (fnmatch): `*`, `?`, `[abc]`, `[!abc]`."""
    made = []
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        end = text.find("]", position + 1 + text.startswith("!", position)) if character == "[" else -1
        if character == "*":
            made.append(".*")
        elif character == "?":
            made.append(".")
        elif end > 0:
            inside = text[position:end].replace("\\", "\\\\").replace("[", "\\[").replace("^", "\\^")
            made.append(f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]")
            position = end + 1
        else:
            made.append(re2.escape(character))
    return whole("".join(made))


def anywhere(expression: str) -> Pattern:
    """Returns the pattern of a regular expression that may match any part of the tag."""
    compiled = _compile(expression)
    return lambda tag: compiled.search(tag) is not None


def whole(expression: str) -> Pattern:
    """Returns the pattern of a regular expression that has to match the whole tag."""
    _compile(expression)  # by itself, so that `a)(b` is an error
    compiled = _compile(f"(?s:{expression})")
    return lambda tag: compiled.fullmatch(tag) is not None


def versions(text: str) -> Pattern:
    """Returns the pattern of a range of semantic versions."""
    if len(text) > MOST_LENGTH:
        raise ValueError(f"a range of {len(text)} characters, over {MOST_LENGTH}")
    return VersionRange(text).holds
