"""Finds out which repositories are private, and keeps the objects of each private one apart in the cache."""

import hashlib

from lazyfs.core.chain.notation import REPOSITORY, is_plain, parse_origins


def state_key(url: str, repository: str) -> str:
    """Returns the name of the directory for a repository's trusted revision, 20 hex digits. `repository`
    replaces @repo@ in the URL."""
    if REPOSITORY in url:
        url = ";".join(parse_origins(url, repository))
    return hashlib.sha256(url.encode()).hexdigest()[:20]


def is_private(url: str, repository: str, *, certificate: bool) -> bool:
    """Returns True if reading the repository at this URL takes a credential: a name, password or query in the
    URL of an origin, or a client certificate (`certificate`) that an origin may ask for."""
    if "://" not in url:
        return False
    for origin in parse_origins(url, repository):
        if certificate and origin.lower().startswith("https:"):
            return True
        if not is_plain(origin):
            from urllib.parse import urlsplit  # costs 3 ms, which a mount of plain origins does without

            parts = urlsplit(origin)
            if "@" in parts.netloc or parts.query:
                return True
    return False


def namespace(url: str, repository: str, *, certificate: bool) -> bytes:
    """Returns the prefix that keeps the objects of a private repository apart in a cache; empty for a public
    repository. The prefix is not secret: a program that can ask the cache for any key can read all of it
    anyway."""
    private = is_private(url, repository, certificate=certificate)
    return state_key(url, repository).encode() if private else b""
