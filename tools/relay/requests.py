"""Counts HTTP/1.1 requests as they pass. Does no I/O."""

import re
from typing import Final

_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)


class RequestCounter:
    """Reads the bytes that a client sends on one connection, and counts the requests whose header is
    complete.

    Bodies are skipped by their Content-Length. Chunked request bodies are not understood, because no client
    that pulls sends them. Everything after a CONNECT counts as one request.
    """

    def __init__(self) -> None:
        self.requests = 0
        self._head = b""
        self._body_left = 0
        self._opaque = False

    def feed(self, data: bytes) -> list[bytes]:
        """Takes the next bytes of the connection, which may be cut anywhere. Returns the headers that are now
        complete."""
        heads: list[bytes] = []
        if self._opaque:
            return heads
        self._head += data
        while True:
            skipped = min(self._body_left, len(self._head))
            self._head = self._head[skipped:]
            self._body_left -= skipped
            head, end, rest = self._head.partition(_END)
            if self._body_left or not end:
                return heads
            self.requests += 1
            heads.append(head)
            self._opaque = head.startswith(b"CONNECT ")
            length = _LENGTH.search(head)
            self._body_left = int(length[1]) if length else 0
            self._head = b"" if self._opaque else rest
            if self._opaque:
                return heads
