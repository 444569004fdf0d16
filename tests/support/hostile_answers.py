"""Answers of a malicious proxy, and the fault that a client must report for each.

An answer is a generator that yields bytes to send and numbers of seconds to wait. When it ends, the
connection is closed.
"""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import NamedTuple

from lazyfs.core.chain.faults import Fault
from tests.support.fault_server import FaultServer, Misbehave
from tests.support.zstd_bombs import rle_bomb

Answer = Callable[[bytes], Iterator[bytes | float]]
"""The body that an honest server would send -> the parts of the malicious answer."""

FOREVER = 3600.0
RESET = -1.0
"""Yielded in place of a number of seconds: resets the connection instead of closing it."""

C, G, T = Fault.CLOSED, Fault.GARBLED, Fault.TRUNCATED
WRONG, LONG, SLOW, SILENT = Fault.BAD_CONTENT, Fault.TOO_LONG, Fault.SLOW, Fault.SILENT


class Attack(NamedTuple):
    """One malicious answer, and the faults under which a client may report it."""

    name: str
    answer: Answer
    faults: tuple[Fault, ...]
    """The faults that a client may report: several if the two HTTP libraries detect the attack at different
    steps."""
    large: bool = False
    """True if the attack needs an object of 3 MiB."""


class HostileProxy(FaultServer):
    """A proxy that answers every request with one attack, or honestly if the attack is None."""

    def __init__(self, content: Callable[[str], bytes | None], attack: Attack | None) -> None:
        self.attack = attack
        super().__init__(content)

    def _answer(self, sock: socket.socket, path: str, fault: Misbehave | None, stop: threading.Event) -> bool:
        if self.attack is None:
            return super()._answer(sock, path, fault, stop)
        for part in self.attack.answer(self.content(path) or b""):
            if isinstance(part, bytes):
                sock.sendall(part)
            elif part == RESET:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif stop.wait(part):
                break
        return False


def _head(*fields: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode("latin-1")


def _fields(*fields: str, status: str = "200 OK") -> Answer:
    """Answers with these header fields, then the true body."""

    def answer(body: bytes) -> Iterator[bytes]:
        yield _head(*fields, status=status) + body

    return answer


def _status(status: str, *fields: str) -> Answer:
    """Answers with another status and a short page."""
    return lambda _: iter([_head("Content-Length: 5", *fields, status=status) + b"hello"])


def _length(text: str) -> Answer:
    return _fields(f"Content-Length: {text}")


def _chunked(*parts: bytes | float) -> Answer:
    """Declares a chunked body, then sends these parts as they are."""

    def answer(_: bytes) -> Iterator[bytes | float]:
        yield _head("Transfer-Encoding: chunked")
        yield from parts

    return answer


def _sized(size: bytes) -> Answer:
    """Answers with the true body as one chunk, but with `size` as the chunk's size."""

    def answer(body: bytes) -> Iterator[bytes]:
        yield _head("Transfer-Encoding: chunked") + size + b"\r\n" + body + b"\r\n0\r\n\r\n"

    return answer


def _written(form: str) -> Answer:
    """Answers with the true body as one chunk, whose size is written in the format `form`."""

    def answer(body: bytes) -> Iterator[bytes | float]:
        return _sized(form.format(len(body)).encode())(body)

    return answer


def _endless(start: bytes, part: bytes, pause: float | None = None) -> Answer:
    """Answers with `start`, and then with `part` without end."""

    def answer(_: bytes) -> Iterator[bytes | float]:
        yield start
        for again in repeat(part):
            yield again
            if pause is not None:
                yield pause

    return answer


def _trickled(front: Callable[[bytes], bytes]) -> Answer:
    """Sends the bytes of an answer one at a time, every 50 ms."""

    def answer(body: bytes) -> Iterator[bytes | float]:
        whole = front(body)
        for place in range(len(whole)):
            yield whole[place : place + 1]
            yield 0.05

    return answer


def _whole(body: bytes) -> bytes:
    return _head(f"Content-Length: {len(body)}") + body


def _raw(*parts: bytes | float) -> Answer:
    return lambda _: iter(parts)


def _bodies(make: Callable[[bytes], bytes], *fields: str) -> Answer:
    """Answers with the body that `make` returns for the true body, and states its length correctly."""

    def answer(body: bytes) -> Iterator[bytes]:
        other = make(body)
        yield _head(f"Content-Length: {len(other)}", *fields) + other

    return answer


_PAGE = b"<html><body>Please log in to the network.</body></html>"
_NOBODY = "http://127.0.0.1:1/"

_LENGTHS = [
    Attack("negative length", _length("-1"), (G,)),
    Attack("length with a sign", _length("+100"), (G,)),
    Attack("length of 5,000 digits", _length("9" * 5000), (LONG, G)),
    Attack("length of 5,000 zeros and one", _length("0" * 5000 + "1"), (WRONG, G)),
    Attack("length beyond 64 bits", _length(str(1 << 65)), (LONG, G)),
    Attack("length of a terabyte", _length(str(1 << 40)), (LONG,)),
    Attack("hexadecimal length", _length("0x64"), (G,)),
    Attack("length with a fraction", _length("100.0"), (G,)),
    Attack("length in a superscript", _length("1\u00b2"), (G,)),
    Attack("two lengths", _fields("Content-Length: 10", "Content-Length: 20"), (G,)),
    Attack("two lengths in one field", _length("10, 20"), (G,)),
    Attack("length beside chunks", _fields("Content-Length: 5", "Transfer-Encoding: chunked"), (G,)),
    Attack("length too small", _length("10"), (WRONG,)),
    Attack("length of nothing", _length("0"), (WRONG,)),
    Attack("length too large by one", lambda body: iter([_whole(body)[:-1]]), (T,)),
]
_CHUNKS = [
    Attack("chunk size that is none", _sized(b"zz"), (G,)),
    Attack("negative chunk size", _sized(b"-5"), (G,)),
    # each is the right size to int()
    Attack("chunk size with a prefix", _written("0x{:x}"), (G, WRONG)),
    Attack("chunk size with a sign", _written("+{:x}"), (G,)),
    Attack("chunk size with an underscore", _written("0_{:x}"), (G, WRONG)),
    Attack("chunk without a size", _sized(b""), (G,)),
    Attack("chunk size of 5,000 digits", _sized(b"f" * 5000), (G, T, LONG)),
    Attack("chunk size of 2^63", _sized(b"8" + b"0" * 15), (G, T, LONG)),
    Attack("chunk larger than its data", _sized(b"fffff"), (G, T)),
    Attack("no last chunk", _chunked(b"5\r\nhello\r\n"), (G, T)),
    Attack("no line end behind a chunk", _chunked(b"5\r\nhello5\r\nhello\r\n0\r\n\r\n"), (G,)),
    Attack(
        "chunks without end",
        _endless(_head("Transfer-Encoding: chunked"), b"400\r\n" + bytes(1024) + b"\r\n"),
        (LONG,),
    ),
    Attack(
        "chunk extension of a megabyte",
        _chunked(b"5;" + b"x" * (1 << 20) + b"\r\nhello\r\n0\r\n\r\n"),
        (G, WRONG),
    ),
    Attack(
        "chunk extension without end",
        _endless(_head("Transfer-Encoding: chunked") + b"5;", b"x" * 1024, 0.001),
        (G, SLOW),
    ),
    Attack(
        "trailers without end",
        _endless(_head("Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n", b"X: y\r\n" * 100),
        (G,),
    ),
    Attack(
        "trailer of a megabyte", _chunked(b"5\r\nhello\r\n0\r\nX: " + b"y" * (1 << 20) + b"\r\n\r\n"), (G,)
    ),
    Attack(
        "trailer that changes the head",
        _chunked(b"5\r\nhello\r\n0\r\nContent-Encoding: gzip\r\n\r\n"),
        (WRONG,),
    ),
    Attack("chunked twice", _fields("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), (G,)),
    Attack("compressed chunks", _fields("Transfer-Encoding: gzip, chunked"), (G,)),
    Attack("transfer coding nobody knows", _fields("Transfer-Encoding: xchunked"), (G,)),
]
_TIMES = [
    Attack("silence", _raw(FOREVER), (SILENT,)),
    Attack("silence behind the head", _raw(_head("Content-Length: 100"), FOREVER), (SLOW,)),
    Attack("silence inside the head", _raw(b"HTTP/1.1 200 OK\r\nContent-", FOREVER), (SLOW, SILENT)),
    Attack("silence inside a chunk", _chunked(b"5\r\nhe", FOREVER), (SLOW,)),
    Attack("body in a trickle", _trickled(_whole), (SLOW, SILENT)),
    Attack(
        "chunk sizes in a trickle",
        _endless(_head("Transfer-Encoding: chunked"), b"1\r\nx\r\n", 0.05),
        (SLOW,),
    ),
    Attack("interim answers in a trickle", _endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05), (SLOW,)),
]
_STATUSES = [
    Attack("100 without end", _endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), (G,)),
    Attack("103 without end", _endless(b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 100), (G,)),
    Attack("103 and nothing else", _raw(_head("Link: </x>", status="103 Early Hints")), (G, C, T)),
    Attack("other protocol", _fields("Upgrade: h2c", status="101 Switching Protocols"), (G,)),
    Attack("garbage before the status", lambda body: iter([b"garbage\r\n" + _whole(body)]), (G,)),
    Attack("HTTP/0.9", lambda body: iter([body]), (G,)),
    Attack("empty lines without end", _endless(b"", b"\r\n" * 1000), (G,)),
    Attack("status of 5,000 digits", _fields("Content-Length: 5", status="9" * 5000), (G,)),
    Attack("status in a superscript", _fields("Content-Length: 5", status="20\u00b2 OK"), (G,)),
    Attack("status that is none", _fields("Content-Length: 5", status="OK"), (G,)),
    Attack("status 999", _fields("Content-Length: 5", status="999 No"), (G,)),
    Attack("version nobody has", lambda body: iter([_whole(body).replace(b"HTTP/1.1", b"HTTP/9.9")]), (G,)),
    Attack("204", _fields(status="204 No Content"), (G,)),
    Attack("206 without being asked", _status("206 Partial", "Content-Range: bytes 0-4/100"), (G,)),
    Attack("304 without being asked", _fields(status="304 Not Modified"), (Fault.REDIRECT,)),
    Attack("redirect to another host", _status("302 Found", f"Location: {_NOBODY}"), (Fault.REDIRECT,)),
    Attack("redirect to a file", _status("301 Moved", "Location: file:///etc/passwd"), (Fault.REDIRECT,)),
    Attack("407", _status("407 No", "Proxy-Authenticate: Basic"), (Fault.PROXY_ACCOUNT,)),
    Attack(
        "503 for 5,000 digits of seconds",
        _status("503 No", "Retry-After: " + "9" * 5000),
        (Fault.UNAVAILABLE,),
    ),
]
_HEADS = [
    Attack("500 fields", _fields(*(f"X-{n}: y" for n in range(500)), "X: " + "y" * 140_000), (G,)),
    Attack("field of a megabyte", _fields("X: " + "y" * (1 << 20)), (G,)),
    Attack("fields without end", _endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100), (G,)),
    Attack("field without end", _endless(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 1000), (G,)),
    Attack("TLS", _raw(b"\x16\x03\x01\x02\x00\x01garbage\r\n\r\n" * 20), (G,)),
    Attack("SSH", _raw(b"SSH-2.0-OpenSSH_9.2\r\n"), (G,)),
    Attack("closed at once", _raw(), (C,)),
    Attack("reset at once", _raw(RESET), (C,)),
    Attack("reset inside the body", _raw(_head("Content-Length: 100") + b"x", RESET), (T, C)),
]
_BODIES = [
    Attack("portal", _bodies(lambda _: _PAGE, "Content-Type: text/html"), (Fault.PORTAL,)),
    Attack("portal that hides", _bodies(lambda _: _PAGE, "Content-Type: application/octet-stream"), (WRONG,)),
    Attack("gzip", _bodies(lambda body: body, "Content-Encoding: gzip"), (Fault.ENCODED,)),
    Attack(
        "two encodings",
        _bodies(lambda body: body, "Content-Encoding: identity", "Content-Encoding: br"),
        (Fault.ENCODED,),
    ),
    Attack(
        "another frame", _bodies(lambda body: body[:-1] + bytes(byte ^ 1 for byte in body[-1:])), (WRONG,)
    ),
    Attack("bomb of zstd blocks", _bodies(lambda _: rle_bomb(20_000, 3 << 20)), (WRONG,), large=True),
    Attack("more than there is", lambda body: iter([_head() + body * 3]), (LONG,)),
    Attack("body without end", _endless(_head(), bytes(1 << 16)), (LONG,)),
    Attack(
        "page without end behind a 404",
        _endless(
            _head("Content-Length: 2", "Transfer-Encoding: chunked", status="404 No"), b"5\r\nhello\r\n"
        ),
        (Fault.MISSING,),
    ),
]

ATTACKS = [*_LENGTHS, *_CHUNKS, *_TIMES, *_STATUSES, *_HEADS, *_BODIES]
