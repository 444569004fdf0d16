"""Matches a connection's answers to its requests, and counts the waits over all connections. Does no I/O."""

import re
from collections import deque
from typing import Final

_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked", re.IGNORECASE)
_NO_BODY: Final = (b"204", b"304")


class Waits:
    """The longest chain of requests in which each was sent after the previous answer had ended.

    A start takes one round-trip time of the line for each request in its longest chain, since concurrent
    requests wait at the same time.
    """

    def __init__(self) -> None:
        self.longest = 0
        """The length of the longest chain, including requests without an answer."""
        self._answered = 0

    def sent(self) -> int:
        """Records a request. Returns its place, which is the length of the longest chain that ends with
        it."""
        place = self._answered + 1
        self.longest = max(self.longest, place)
        return place

    def ended(self, place: int) -> None:
        """Records that the answer to the request with this place is complete."""
        self._answered = max(self._answered, place)


class Answers:
    """Reads the answers on one connection, and reports each complete answer to `waits`.

    An answer to HEAD has no body. Chunked bodies are understood. An answer that ends with the connection ends
    no wait, because no request can follow it on that connection.
    """

    def __init__(self, waits: Waits) -> None:
        self._waits = waits
        self._open: deque[tuple[int, bool]] = deque()
        """Unanswered requests: (place in its chain, True for HEAD)."""
        self._buffer = b""
        self._left = 0
        """Bytes still to come of the current body or chunk."""
        self._chunked = False
        self._in_body = False
        self._opaque = False

    def request(self, head: bytes) -> None:
        """Records a request that has passed."""
        self._open.append((self._waits.sent(), head.startswith(b"HEAD ")))
        self._opaque = self._opaque or head.startswith(b"CONNECT ")

    def feed(self, data: bytes) -> None:
        """Takes the next bytes for the client. They may be cut anywhere."""
        if self._opaque:
            return
        self._buffer += data
        while self._step():
            pass

    def _step(self) -> bool:
        """Processes one header, part of a body, or chunk header from the buffer. Returns False if this needs
        more bytes."""
        if self._left:
            taken = min(self._left, len(self._buffer))
            self._buffer = self._buffer[taken:]
            self._left -= taken
            if self._left:
                return False
        if self._in_body:
            return self._chunk() if self._chunked else self._end()
        head, end, rest = self._buffer.partition(_END)
        if not end or not self._open:
            return False
        self._buffer = rest
        status = head[9:12]
        if status.startswith(b"1"):
            return True
        length = _LENGTH.search(head)
        self._chunked = bool(_CHUNKED.search(head))
        self._in_body = True
        if self._open[0][1] or status in _NO_BODY:
            self._chunked, length = False, None
        elif length is None and not self._chunked:
            self._opaque = True
            return False
        self._left = int(length[1]) if length else 0
        return True

    def _chunk(self) -> bool:
        line, end, rest = self._buffer.partition(b"\r\n")
        if not end:
            return False
        size = int(line.split(b";")[0], 16)
        if size:
            self._buffer, self._left = rest, size + 2
            return True
        if not rest.startswith(b"\r\n"):  # no server here sends trailers, so they are not parsed
            return False
        self._buffer = rest[2:]
        return self._end()

    def _end(self) -> bool:
        self._waits.ended(self._open.popleft()[0])
        self._in_body = False
        return True
