"""Which repositories are private, and the part of the cache that each of those has for itself."""

import hashlib
from urllib.parse import urlsplit

from lazyfs.core.chain.notation import REPOSITORY, parse_origins


def state_key(url: str, repository: str) -> str:
    """The name of the directory where a repository's trust is kept, 20 hex digits; `repository` stands for
    @repo@ in the URL."""
    if REPOSITORY in url:
        url = ";".join(parse_origins(url, repository))
    return hashlib.sha256(url.encode()).hexdigest()[:20]


def is_private(url: str, repository: str, *, certificate: bool) -> bool:
    """Returns True if it takes a credential to read the repository at this URL: a name, password or query in
    the URL of an origin, or a client certificate (`certificate`) that an origin may ask for."""
    if "://" not in url:
        return False
    for origin in parse_origins(url, repository):
        parts = urlsplit(origin)
        if "@" in parts.netloc or parts.query or (certificate and parts.scheme == "https"):
            return True
    return False


def namespace(url: str, repository: str, *, certificate: bool) -> bytes:
    """What sets the objects of a private repository apart in a cache; empty for a public one. Not secret: who
    can ask the cache by a key of his own making needs no repository for it."""
    private = is_private(url, repository, certificate=certificate)
    return state_key(url, repository).encode() if private else b""
