"""Outgoing webhooks: tells the addresses in the configuration about the events of a run.

A run never waits for an address, as each address has a thread and a bounded queue. Only at its end does a run
wait, up to PATIENCE seconds, for the messages that are still queued. A message holds no owners, lists or
accounts, and names only images that everybody may read in the tree; it says how many events it leaves out.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from lazyfs.core.errors import LazyfsError
from lazyfs.core.webhooks.proofs import signature
from lazyfs.images.registry.wire import Wire
from lazyfs.sync.ledger import News
from lazyfs.sync.report import Event

MOST_EVENTS = 200
"""The largest number of events in one message."""
MOST_WAITING = 50
"""The largest number of messages that wait for an address. Further ones are dropped, which is reported."""
PAUSES = (1.0, 5.0)
"""Seconds to wait before the second and the third try of a message."""
PATIENCE = 30.0
"""Seconds for which a run waits at its end for the messages that are still queued."""
SIGNATURE = "X-Lazyfs-Signature-256"
_PASSING = (408, 425, 429)
"""HTTP statuses below 500 after which a retry may help."""


class Address(NamedTuple):
    """An address that is told of events."""

    name: str
    """The address's name in the configuration. Messages to people use only this name, since a URL may be a
    secret."""
    url: str
    secret: str = ""
    secret_header: str = ""
    """The header that carries the secret itself; empty if the secret is used to sign the body."""
    events: frozenset[str] = frozenset()
    private_names: bool = False
    """True to name all images; False to name only those that everybody may read in the tree."""


class ToldEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event in a message."""

    time: int
    event: str
    image: str
    digest: str = ""
    before: str = ""
    revision: int = 0
    reason: str = ""
    new: bool = True
    acknowledged: str = ""


class Message(msgspec.Struct, frozen=True):
    """The body of a webhook."""

    repository: str
    events: list[ToldEvent]
    withheld: int
    """The number of events that were left out because their images' names are not public."""


def messages(repository: str, address: Address, news: Iterable[News]) -> list[bytes]:
    """Returns the bodies of the messages to an address about the events that it wants; empty if there are no
    such events."""
    wanted = [one for one in news if one.event.event in address.events]
    told = [_told(one.event) for one in wanted if one.public or address.private_names]
    withheld = len(wanted) - len(told)
    parts = [told[start : start + MOST_EVENTS] for start in range(0, len(told), MOST_EVENTS)]
    if withheld and not parts:
        parts = [[]]
    return [
        msgspec.json.encode(Message(repository, part, 0 if number else withheld))
        for number, part in enumerate(parts)
    ]


def _told(event: Event) -> ToldEvent:
    return ToldEvent(
        event.time, event.event, event.image, event.digest, event.before, event.revision, event.reason,
        event.new, event.acknowledged,
    )  # fmt: skip


def head(address: Address, body: bytes) -> dict[str, str]:
    """Returns the HTTP header fields for a message."""
    fields = {"Content-Type": "application/json", "X-Lazyfs-Event": "sync"}
    if address.secret:
        name = address.secret_header or SIGNATURE
        fields[name] = address.secret if address.secret_header else signature(address.secret, body)
    return fields


class Notifier:
    """Sends messages to several addresses. Use as a context manager."""

    def __init__(
        self,
        repository: str,
        addresses: Sequence[Address],
        wire: Callable[[Address], Wire],
        tell: Callable[[str], None],
        *,
        patience: float = PATIENCE,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        """`wire`: makes the HTTP client for an address. `tell`: called from several threads, with a line for
        each message that was given up. `patience`: the longest wait in seconds at the end of the run.
        `pauses`: seconds to wait before each further try of a message."""
        self._repository = repository
        self._patience = patience
        self._senders = [_Sender(address, wire(address), tell, pauses) for address in addresses]

    def __enter__(self) -> "Notifier":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        end = time.monotonic() + (self._patience if kind is None else 0.0)  # a run that is given up ends
        for sender in self._senders:
            sender.end()
        for sender in self._senders:
            sender.wait(max(end - time.monotonic(), 0.0))

    def announce(self, news: Sequence[News]) -> None:
        """Queues the messages about these events. Never waits."""
        for sender in self._senders:
            for body in messages(self._repository, sender.address, news):
                sender.offer(body)


class _Sender:
    """The queue of one address, and the thread that sends its messages."""

    def __init__(
        self, address: Address, wire: Wire, tell: Callable[[str], None], pauses: Sequence[float]
    ) -> None:
        self.address = address
        self._wire = wire
        self._tell = tell
        self._pauses = pauses
        self._waiting: queue.Queue[bytes | None] = queue.Queue()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def offer(self, body: bytes) -> None:
        if self._waiting.qsize() >= MOST_WAITING:
            self._tell(f"notify {self.address.name}: too many messages wait: one is dropped")
            return
        self._waiting.put(body)
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, name=f"notify-{self.address.name}", daemon=True
            )
            self._thread.start()

    def end(self) -> None:
        """Asks the thread to end once it has sent the queued messages."""
        self._waiting.put(None)

    def wait(self, seconds: float) -> None:
        """Waits up to `seconds` for the thread to end; then gives up the messages that are left."""
        if self._thread is not None:
            self._thread.join(seconds)
            if self._thread.is_alive():
                self._ended.set()
                self._tell(f"notify {self.address.name}: given up: it has not answered in time")

    def _work(self) -> None:
        while (body := self._waiting.get()) is not None and not self._ended.is_set():
            problem = self._told(body)
            if problem and not self._ended.is_set():
                self._tell(f"notify {self.address.name}: {problem}")
        self._wire.close()

    def _told(self, body: bytes) -> str:
        """Sends a message, with retries where they may help. Returns the reason why it was given up, or an
        empty text."""
        problem, lasting = "", False
        for pause in (0.0, *self._pauses):
            if lasting or self._ended.wait(pause):
                break
            problem, lasting = self._tried(body)
            if not problem:
                break
        return problem

    def _tried(self, body: bytes) -> tuple[str, bool]:
        """Tries to send a message once. Returns (the fault, or an empty text; True if a retry will not
        help)."""
        try:
            with self._wire.send(self.address.url, head(self.address, body), body) as reply:
                status = reply.status
        except LazyfsError as error:
            return str(error), False
        if 200 <= status < 300:
            return "", True
        said = f"it answers {status}" + (" (redirects are not followed)" if 300 <= status < 400 else "")
        return said, status < 500 and status not in _PASSING
