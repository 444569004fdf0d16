"""Decides who may send reports, and how many an hour. A reporter needs a bearer token or a client
certificate."""

import hmac
import os
import re
import stat
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from lazyfs.core.errors import UsageError
from lazyfs.sync.sender_networks import network_of

LEAST_TOKEN: Final = 16
"""The smallest number of characters of a token: shorter ones can be guessed."""
HOUR: Final = 3600.0
MOST_AN_HOUR: Final = 60
"""The largest number of reports that are accepted from one reporter in an hour; a mount sends at most half as
many."""
MOST_REPORTERS: Final = 10_000
_LINE = re.compile(r"([A-Za-z0-9._-]{1,64})\s+([\x21-\x7e]+)")


def read_tokens(path: str) -> dict[str, str]:
    """Reads a file of lines `NAME TOKEN`; returns token -> name. Raises UsageError if other users can read
    the file, if a line has another form, or if there is no token."""
    try:
        with open(path, encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            lines = file.read(1 << 20).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--tokens {path}: {error}") from None
    if mode & 0o077:
        raise UsageError(f"--tokens {path} has mode {mode:04o}, and others can read it: chmod 600 {path}")
    tokens: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        found = _LINE.fullmatch(text)
        if found is None or len(found[2]) < LEAST_TOKEN:
            raise UsageError(
                f"--tokens {path}: line {number} is no NAME and TOKEN of at least {LEAST_TOKEN} characters"
            )
        tokens[found[2]] = found[1]
    if not tokens:
        raise UsageError(f"--tokens {path}: it has no line `NAME TOKEN`")
    return tokens


class Reporters:
    """The reporters that may send reports. Only `identify` is thread-safe."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        """`tokens`: token -> name."""
        self._tokens = {token.encode(): name for token, name in tokens.items()}
        self._recent: OrderedDict[str, list[float]] = OrderedDict()
        """Reporter -> the times (seconds since 1970) of the reports that it sent in the last hour."""

    def identify(self, authorization: str, certificate: Mapping[str, Any] | None, address: str) -> str | None:
        """Returns the name of the reporter who sends a request; None if the request has neither a known token
        nor a verified certificate. `authorization`: the request's header Authorization. `certificate`: as
        SSLSocket.getpeercert returns it.

        The name contains the sender's network. So workers that share a token but not an address are different
        reporters.
        """
        kind, _, token = authorization.partition(" ")
        given = token.strip().encode(errors="replace")
        name = None
        for known, its in self._tokens.items():  # all of them: the time must not tell which one is like it
            if hmac.compare_digest(known, given) and kind.lower() == "bearer":
                name = its
        if name is None and certificate:
            name = f"certificate {certificate.get('serialNumber', '')} {_common_name(certificate)}"
        return None if name is None else f"{name} {network_of(address)}"

    def may_report(self, reporter: str, now: float) -> bool:
        """Notes that a reporter sends a report; returns False, and notes nothing, if it has sent MOST_AN_HOUR
        within the last hour."""
        times = [time for time in self._recent.pop(reporter, []) if time > now - HOUR]
        allowed = len(times) < MOST_AN_HOUR
        self._recent[reporter] = [*times, now] if allowed else times
        if len(self._recent) > MOST_REPORTERS:
            self._recent.popitem(last=False)
        return allowed


def _common_name(certificate: Mapping[str, Any]) -> str:
    pairs = dict(pair for part in certificate.get("subject", ()) for pair in part)
    return str(pairs.get("commonName", ""))
