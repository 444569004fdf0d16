"""The notation for proxies and origins that is usual in the field (CVMFS).

`http://p1:3128|http://p2:3128;http://p3:3128;DIRECT`: `|` balances within a group, `;` falls through to the
next group. `http://s1/@repo@;http://s2/@repo@`: origins in order of preference until latencies are known.
"""

import re

from lazyfs.core.errors import UsageError

DIRECT = "DIRECT"
REPOSITORY = "@repo@"
_PLACE = r"(\[[0-9A-Za-z:.%_-]+\]|[^\[\]:]+)(:[0-9]*)?"
"""Host and port. Stricter than urlsplit, which takes `p[::1]u:s@[http` for a host called `http`."""
_PLAIN = re.compile(
    r"https?://[0-9A-Za-z.-]+(:[1-9][0-9]{0,3}|:[1-5][0-9]{4}|:6[0-4][0-9]{3})?(/[0-9A-Za-z/._~%+=:,-]*)?"
)
_ACCOUNT = r"://[^/|;\s]*@"
_QUERY = r"\?[^|;\s]+"
_MARK = "\0repo\0"
"""Replaces `@repo@` while the other `@` of the text are looked for."""


def parse_proxies(text: str) -> tuple[tuple[str, ...], ...]:
    """Returns the groups of proxy URLs, each URL once; a group may also contain `DIRECT`. Raises
    UsageError."""
    groups: list[tuple[str, ...]] = []
    known: set[str] = set()
    for group in text.split(";"):
        members: list[str] = []
        for member in (part.strip() for part in group.split("|")):
            if member.lower() == "auto":
                raise UsageError("proxy 'auto': WPAD is not supported; name the proxies, or DIRECT")
            name = DIRECT if member.upper() == DIRECT else _checked(member, "proxy", "http://squid:3128")
            if name not in known:
                known.add(name)
                members.append(name)
        if members:
            groups.append(tuple(members))
    return tuple(groups)


def parse_origins(text: str, repository: str | None = None) -> tuple[str, ...]:
    """Returns URLs of stores, without trailing slashes, each once. `@repo@` becomes the repository's name.

    Raises UsageError.
    """
    found: dict[str, None] = {}
    for origin in (part.strip() for part in text.split(";")):
        if REPOSITORY in origin:
            if repository is None:
                raise UsageError(f"origin {_hidden(origin)}: {REPOSITORY} needs the repository's name")
            origin = origin.replace(REPOSITORY, repository)
        found[_checked(origin, "origin", "http://server/repository").rstrip("/")] = None
    return tuple(found)


def is_plain(url: str) -> bool:
    """Returns True only for a correct URL without account and query. Returns False for all other URLs, and
    for the few correct ones that a regular expression cannot judge. Importing urllib.parse, a parser of URLs,
    would cost a mount 3 ms."""
    return _PLAIN.fullmatch(url) is not None


def redact(url: str) -> str:
    """Returns the URL without user name, password and query, as log, status and errors may show it."""
    head, mark, rest = url.partition("://")
    if not mark:
        return url.partition("?")[0]
    place, slash, path = rest.partition("/")
    return f"{head}://{place.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def without_secrets(chain: str) -> str:
    """Returns a text of origins or proxies in the form that people may see: with `***` in place of each user
    name with its password, and of each query."""
    if "@" not in chain and "?" not in chain:
        return chain  # compiling the two expressions would cost each mount 0.3 ms
    return re.sub(_QUERY, "?***", re.sub(_ACCOUNT, "://***@", chain))


def _hidden(text: str) -> str:
    """Hides user name, password and query in a text that is not a valid URL. Everything before the last `@`
    counts as user name and password, as in `user:pass/word@host`."""
    account, at, rest = text.replace(REPOSITORY, _MARK).rpartition("@")
    shown = f"...@{rest}" if at and ":" in account else account + at + rest
    return redact(shown.replace(_MARK, REPOSITORY))


def _checked(url: str, what: str, example: str) -> str:
    if is_plain(url):
        return url
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        place = re.fullmatch(_PLACE, parts.netloc.rpartition("@")[2])
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and bool(place)
    except ValueError:  # brackets, or a port that is not a number up to 65535
        usable = False
    if not usable or not url.isascii() or any(character <= " " for character in url):
        raise UsageError(f"{what} {_hidden(url)!r}: write it as {example}")
    return url
