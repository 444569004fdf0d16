"""Removes secrets from texts that strangers may read: passwords, tokens, keys, homes, people's names."""

import base64
import re
import urllib.parse
from collections.abc import Iterable, Iterator

GONE = "***"
_SHORTEST = 3
"""The shortest length, in characters, of a secret or name that is removed wherever it occurs. Shorter ones
occur by chance, so they are removed only in URLs and after words like `password=`."""
_PATTERNS = (
    (
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.DOTALL),
        GONE,
    ),
    (re.compile(r"://[^/|;\s\"'<>]*@"), f"://{GONE}@"),
    (re.compile(r"(://[^\s?|;\"'<>]*)\?[^\s|;\"'<>]+"), rf"\1?{GONE}"),
    (re.compile(r"\b(Bearer|Basic|Negotiate)(\s+)[^\s\",;]{4,}", re.IGNORECASE), rf"\1\2{GONE}"),
    (
        re.compile(
            r"((?:pass(?:word|wd|phrase)?|token|secret|authorization|api[_-]?key|credentials?|signature|cookie)"
            r"[\w-]*[\"']?\s*[:=]\s*[\"']?)(?!\s|(?:Bearer|Basic|Negotiate)\b|[\[{])[^\s\"',;]+",
            re.IGNORECASE,
        ),
        rf"\1{GONE}",
    ),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?"), GONE),  # JSON web tokens
    (re.compile(r"\b(?:A[KS]IA[A-Z0-9]{16}|gh[pousr]_\w{20,}|glpat-[\w-]{20,}|dckr_pat_[\w-]{20,})"), GONE),
    (re.compile(r"(?<![\w.])/(?:home|Users|var/home)/[^/\s\"':,;]+"), "~"),
)
_CHAIN_ACCOUNT = re.compile(r"://([^/|;\s]*)@")
_CHAIN_QUERY = re.compile(r"\?([^|;\s]+)")


class Scrubber:
    """Removes given secrets and names from texts, and everything whose form shows that it is a secret."""

    def __init__(self, homes: Iterable[str], users: Iterable[str], secrets: Iterable[str]) -> None:
        """`homes`: home directories. `users`: names of people's accounts. `secrets`: passwords and tokens."""
        rules = [(re.compile(re.escape(secret)), GONE) for secret in _longest_first(secrets)]
        rules += _PATTERNS
        for home in _longest_first(home.rstrip("/") for home in homes):
            rules.append((re.compile(rf"(?<![\w.]){re.escape(home)}(?![\w.-])"), "~"))
        for number, user in enumerate(_longest_first(users), 1):
            word = rf"(?<![A-Za-z0-9]){re.escape(user)}(?![A-Za-z0-9])"
            rules.append((re.compile(word, re.IGNORECASE), f"user{number}"))
        self._rules = rules

    def text(self, text: str) -> str:
        """Returns the text without secrets."""
        for pattern, replacement in self._rules:
            text = pattern.sub(replacement, text)
        return text


def secrets_of(chain: str) -> Iterator[str]:
    """Yields the passwords and query values in the URLs of a chain's origins or proxies. Each is yielded in
    several forms: as written, decoded, and as HTTP sends it."""
    for account in _CHAIN_ACCOUNT.findall(chain):
        user, colon, password = account.partition(":")
        plain = urllib.parse.unquote(password)
        yield from (password, plain) if colon else (user, urllib.parse.unquote(user))
        yield base64.b64encode(f"{urllib.parse.unquote(user)}:{plain}".encode()).decode()
    for query in _CHAIN_QUERY.findall(chain):
        yield query
        for _, value in urllib.parse.parse_qsl(query):
            yield value


def _longest_first(texts: Iterable[str]) -> list[str]:
    found = {text for text in texts if len(text) >= _SHORTEST}
    return sorted(found, key=lambda text: (-len(text), text))
