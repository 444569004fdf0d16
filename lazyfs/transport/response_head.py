"""The parts of an HTTP answer's head that a client of stores needs."""

from collections.abc import Iterable, Mapping

from lazyfs.core.chain.faults import AttemptFailed, Fault, of_status
from lazyfs.core.digits import natural

ERROR_PAGE = 16 << 10
"""The largest number of bytes of a refusal's body that are read and dropped to keep the connection: a new one
costs a round trip and begins slowly."""


MENDS = {
    Fault.ACCOUNT: "give the right one in the store's URL, by @FILE, or have it let readers in",
    Fault.PROXY_ACCOUNT: "give one as http://USER:PASSWORD@PROXY:PORT",
}


class Head:
    """The status and the header fields of an answer."""

    def __init__(self) -> None:
        self.status = 0
        self._fields: dict[str, str] = {}

    @classmethod
    def of(cls, status: int, fields: Mapping[str, str]) -> "Head":
        """Makes a head from fields that a library has parsed."""
        head = cls()
        head.status = status
        head._fields = {name.lower(): value for name, value in fields.items()}
        return head

    @classmethod
    def parse(cls, lines: Iterable[bytes]) -> "Head":
        """Makes a head from its lines as received, the status line first."""
        head = cls()
        fields = head._fields
        for raw in lines:
            text = raw.decode("latin-1").strip()
            if text.startswith("HTTP/"):
                words = text.split(None, 2)
                head.status = (natural(words[1]) or 0) if len(words) > 1 else 0
                fields.clear()
            elif ":" in text:
                name, _, value = text.partition(":")
                name, value = name.strip().lower(), value.strip()
                fields[name] = f"{fields[name]}, {value}" if name in fields else value
        return head

    def field(self, name: str, default: str = "") -> str:
        """Returns the fields of this name (lower case), joined by commas as RFC 9110 has it (5.3)."""
        return self._fields.get(name, default)

    @property
    def html(self) -> bool:
        return "html" in self.field("content-type")

    @property
    def chunked(self) -> bool:
        return "chunked" in self.field("transfer-encoding").lower()

    @property
    def from_cache(self) -> bool:
        """True if a cache states that it had the object."""
        return "hit" in self.field("x-cache").lower() or bool(natural(self.field("age")))

    @property
    def short_page(self) -> bool:
        """True for a status of 404, 403 (a bucket's refusal) or 400, if the answer states a length of its
        body and the body is short. Once the body is read, the connection can be used again; the body of a 400
        also tells the fault of TLS."""
        length = natural(self.field("content-length"))
        ends = length is not None and length <= ERROR_PAGE
        # the length stated beside chunks counts for nothing
        return ends and not self.chunked and self.status in (400, 403, 404)

    def _length(self) -> int | None:
        """Returns the announced length of the body; None if none is announced. Raises AttemptFailed if two
        readers could disagree about the end of the answer (RFC 9112, 6.3)."""
        coding, text = self.field("transfer-encoding").lower(), self.field("content-length")
        if coding not in ("", "identity", "chunked"):
            raise AttemptFailed(Fault.GARBLED, f"Transfer-Encoding {coding[:50]}")
        if not text:
            return None
        if coding == "chunked":
            raise AttemptFailed(Fault.GARBLED, "a Content-Length beside chunks")
        stated = {natural(part.strip()) for part in text.split(",")}
        length = stated.pop()
        if length is None or stated:
            raise AttemptFailed(Fault.GARBLED, f"Content-Length {text[:50]}")
        return length

    def check(self, max_bytes: int) -> int | None:
        """Returns the announced length of the body; None if none is announced, or for an interim answer.
        Raises AttemptFailed unless the answer has a plain body of at most `max_bytes`."""
        if 100 <= self.status < 200:
            return None
        fault = of_status(self.status)
        if fault is not None:
            delay, target = natural(self.field("retry-after")), self.field("location")
            detail = f"HTTP {self.status}" + (f" to {target[:200]}" if fault is Fault.REDIRECT else "")
            detail = MENDS.get(fault, detail)
            raise AttemptFailed(fault, detail, None if delay is None else float(delay))
        encoding = self.field("content-encoding", "identity")
        if encoding.lower() not in ("", "identity"):
            raise AttemptFailed(Fault.ENCODED, encoding[:50])
        expected = self._length()
        if expected is not None and expected > max_bytes:
            raise AttemptFailed(Fault.TOO_LONG, f"Content-Length {expected}, more than {max_bytes}")
        return expected

    def check_final(self, max_bytes: int) -> int | None:
        """Works as `check`, and also raises AttemptFailed for an interim answer: http.client takes every 1xx
        except 100 for the final answer, and libcurl takes 101."""
        if self.status < 200:
            raise AttemptFailed(Fault.GARBLED, f"HTTP {self.status} as the answer")
        return self.check(max_bytes)
