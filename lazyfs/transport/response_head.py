"""The head of an HTTP answer, as far as a client of stores cares."""

from collections.abc import Mapping

from lazyfs.core.chain.faults import AttemptFailed, Fault, of_status

ERROR_PAGE = 16 << 10
"""Bytes of a refusal's body that are read and dropped, at most: cheaper than a new connection, which costs a
round trip and begins slowly."""


class Head:
    """Status line and fields, line by line."""

    def __init__(self) -> None:
        self.status = 0
        self._fields: dict[str, str] = {}

    @classmethod
    def of(cls, status: int, fields: Mapping[str, str]) -> "Head":
        """From a library that has parsed it."""
        head = cls()
        head.status = status
        head._fields = {name.lower(): value for name, value in fields.items()}
        return head

    def line(self, raw: bytes) -> None:
        """One line as received; a status line begins anew (after `100 Continue`)."""
        text = raw.decode("latin-1").strip()
        if text.startswith("HTTP/"):
            words = text.split(None, 2)
            self.status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
            self._fields = {}
        elif ":" in text:
            name, _, value = text.partition(":")
            self._fields[name.strip().lower()] = value.strip()

    def field(self, name: str, default: str = "") -> str:
        """The last field of this name (lower case)."""
        return self._fields.get(name, default)

    @property
    def html(self) -> bool:
        return "html" in self.field("content-type")

    @property
    def chunked(self) -> bool:
        return "chunked" in self.field("transfer-encoding").lower()

    @property
    def from_cache(self) -> bool:
        """A cache says that it had the object."""
        return "hit" in self.field("x-cache").lower() or self.field("age", "0") != "0"

    @property
    def short_page(self) -> bool:
        """A 404, or a bucket's 403, whose body is short and ends by itself: read to its end, it leaves the
        connection usable. The body of a 400 tells what is wrong with TLS."""
        length = self.field("content-length")
        ends = length.isascii() and length.isdigit() and int(length) <= ERROR_PAGE
        return (
            ends and not self.chunked and self.status in (400, 403, 404)
        )  # chunks have no length that holds

    def check(self, max_bytes: int) -> int | None:
        """The length announced, if any. Raises AttemptFailed unless a plain body that fits follows."""
        if 100 <= self.status < 200:
            return None
        fault = of_status(self.status)
        if fault is not None:
            delay, target = self.field("retry-after"), self.field("location")
            detail = f"HTTP {self.status}" + (f" to {target[:200]}" if fault is Fault.REDIRECT else "")
            raise AttemptFailed(fault, detail, float(delay) if delay.isascii() and delay.isdigit() else None)
        encoding = self.field("content-encoding", "identity")
        if encoding.lower() not in ("", "identity"):
            raise AttemptFailed(Fault.ENCODED, encoding[:50])
        length = self.field("content-length")
        expected = int(length) if length.isascii() and length.isdigit() else None
        if expected is not None and expected > max_bytes:
            raise AttemptFailed(Fault.TOO_LONG, f"Content-Length {expected}, more than {max_bytes}")
        return expected
