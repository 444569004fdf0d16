"""The challenges of a WWW-Authenticate field (RFC 9110, 11.6.1): several in one field, in any order."""

import re
from typing import NamedTuple

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PARAMETER = re.compile(r'[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([!#$%&\'*+.^_`|~0-9A-Za-z/:?@=-]+))')
"""Unquoted values may hold the characters of a URL: RFC 9110 forbids them, but registries send them."""
_TOKEN68 = re.compile(r"[ \t]+[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|$)")
_QUOTED_PAIR = re.compile(r"\\(.)")
_SEPARATORS = re.compile(r"[ \t,]+")


class Challenge(NamedTuple):
    """One way to authenticate."""

    scheme: str
    """The scheme in lower case: `basic`, `bearer`, or an unknown one."""
    parameters: tuple[tuple[str, str], ...] = ()
    """Names in lower case; of equal names the first counts."""

    def value(self, name: str) -> str:
        """Returns the value of a parameter, empty if there is none."""
        return next((value for key, value in self.parameters if key == name), "")


def parse_challenges(field: str) -> tuple[Challenge, ...]:
    """Returns the challenges of a field in the order in which they are written. Unreadable parts are passed
    over; nothing is raised."""
    found: list[tuple[str, list[tuple[str, str]]]] = []
    position = 0
    while position < len(field):
        if separators := _SEPARATORS.match(field, position):
            position = separators.end()
            continue
        name = _TOKEN.match(field, position)
        if not name:
            position += 1
            continue
        position = name.end()
        if parameter := _PARAMETER.match(field, position):
            position = parameter.end()
            if found:
                quoted, bare = parameter.groups()
                value = bare if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted)
                found[-1][1].append((name[0].lower(), value))
            continue
        found.append((name[0].lower(), []))
        if (credentials := _TOKEN68.match(field, position)) and not _is_scheme(credentials[0]):
            position = credentials.end()
    return tuple(Challenge(scheme, tuple(parameters)) for scheme, parameters in found)


def _is_scheme(text: str) -> bool:
    """Returns True if the text is the name of a scheme, and so not the credentials of the scheme before it:
    in `Negotiate Basic realm=...` the comma between two challenges is missing."""
    return text.strip(" \t,").lower() in ("basic", "bearer")
