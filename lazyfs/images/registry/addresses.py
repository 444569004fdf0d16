"""The addresses of servers that are asked: those that a person gives, and those that a server sends."""

from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from lazyfs.core.shown_address import shown_address
from lazyfs.images.registry.problems import refused

PORTS = {"http": 80, "https": 443}
"""The schemes that are spoken, and the port of each."""


class Origin(NamedTuple):
    """The server that a request goes to."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


def origin_of(url: str) -> Origin:
    """Returns the origin of an address. Raises Failed if the address cannot be reached by HTTP."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # its text may have the account in it
        raise refused(f"{shown_address(url)}: not an address") from None
    if parts.scheme not in PORTS or not host:
        raise refused(f"{shown_address(url)}: not an http or https address")
    return Origin(parts.scheme, host, port or PORTS[parts.scheme])


def joined(base: str, target: str) -> str:
    """Returns the address that `target`, sent by the server of `base`, stands for; it may be relative.
    `urlsplit` can take it. Raises Failed if it is no address."""
    try:
        url = urljoin(base, target)
        urlsplit(url)
    except ValueError:
        raise refused(
            f"{shown_address(base)}: it leads to {shown_address(target)!r}, which is not an address"
        ) from None
    return url
