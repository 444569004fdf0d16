"""Requests to one bucket. Each has a deadline and is retried if that may help; as many run at the same time
as the bucket takes.

Objects go up in one PUT each, never in parts: none is over 16 MiB, and the end of a multipart upload may say
200 and carry an error. Requests are signed over the SHA-256 of their body, so the bucket refuses bytes that
were changed on the way.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from lazyfs.store.protocol import StoreError
from lazyfs.store.s3.connection import Connection
from lazyfs.store.s3.credentials import Profile
from lazyfs.store.s3.failures import Failure, Meaning, read_failure
from lazyfs.store.s3.location import BucketLocation
from lazyfs.store.s3.pace import Pace

PATIENCE = 300.0
"""Seconds for which a request is retried while the bucket fails: gateways are restarted in less."""
WRITE, REPLACED = "lazyfs-write", "lazyfs-replaced"
"""Metadata fields of an S3 object (x-amz-meta-...). Each write to a key whose content may change has a random
text in WRITE, and in REPLACED the random text of the write that it replaces."""
RENEWALS = 3
"""The largest number of times that one request is retried with other credentials."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0

T = TypeVar("T")


class Refused(Exception):
    """Carries the failure of an attempt to the caller, who decides what it means."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class Unsupported(StoreError):
    """The bucket's server does not know this kind of request."""


class Content(NamedTuple):
    """The content of a key: its bytes, its ETag, and the random text of the write that made it."""

    data: bytes
    tag: str | None
    write: str | None
    replaced: str | None
    """The random text of the write that was replaced by the write of this content."""


class Listed(NamedTuple):
    """One line of a listing."""

    key: str
    size: int
    modified: float
    tag: str | None
    """The ETag, with its quotes if the server sends them."""


Condition = Literal["create"] | str | None
"""The condition of a write. "create": the key must not exist. `tag:` and an ETag: the key must have this
content. None: no condition."""


class Client:
    """Makes requests to one bucket, for the keys below one store's prefix. Thread-safe."""

    def __init__(
        self,
        location: BucketLocation,
        profile: Profile,
        *,
        patience: float = PATIENCE,
        pace: Pace | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        """Raises UsageError for an AWS profile that cannot be used."""
        self.location = location
        self.pace = pace or Pace()
        self._connection = Connection(location, profile)
        self._patience = patience
        self._monotonic = monotonic
        self._pause = pause

    def get(self, key: str) -> Content | None:
        """Returns the content of a key, None if there is certainly none. Raises StoreError."""

        def ask(store: S3Store) -> Content:
            answer = obstore.get(store, key)
            write, replaced = answer.attributes.get(WRITE), answer.attributes.get(REPLACED)
            return Content(bytes(answer.bytes()), answer.meta.get("e_tag"), write, replaced)

        try:
            return self._asked(f"GET {key}", ask)
        except Refused as refused:
            if refused.failure.meaning == Meaning.ABSENT:
                return None
            raise self._failed(f"GET {key}", refused.failure) from None

    def has(self, key: str) -> bool:
        """Returns True if the key exists. Raises StoreError."""
        try:
            self._asked(f"HEAD {key}", lambda store: obstore.head(store, key))
        except Refused as refused:
            if refused.failure.meaning == Meaning.ABSENT:
                return False
            raise self._failed(f"HEAD {key}", refused.failure) from None
        return True

    def put(self, key: str, data: bytes, condition: Condition, headers: dict[str, str]) -> bool | None:
        """Stores `data` under a key. Returns True if it was stored, False if the condition did not hold.
        Returns None if it is not known which of the two is true: the answer to one attempt was lost and the
        retry was refused, perhaps because the first attempt had succeeded.

        Raises StoreError; then too it is not known if `data` was stored.
        """
        unsure = False

        def ask(store: S3Store) -> None:
            nonlocal unsure
            mode: Any = "overwrite" if condition is None else condition
            if mode.startswith("tag:"):
                mode = {"e_tag": mode.removeprefix("tag:")}
            try:
                obstore.put(store, key, data, mode=mode, attributes=dict(headers), use_multipart=False)
            except (BaseError, OSError) as error:
                unsure |= read_failure(error).may_have_happened
                raise

        try:
            self._asked(f"PUT {key}", ask)
        except Refused as refused:
            if refused.failure.meaning == Meaning.PRECONDITION or (
                refused.failure.meaning == Meaning.ABSENT and condition and condition.startswith("tag:")
            ):
                return None if unsure else False
            raise self._failed(f"PUT {key}", refused.failure) from None
        return True

    def delete(self, keys: Sequence[str]) -> None:
        """Deletes keys in one request. Passes over keys that are not there. Raises StoreError."""
        try:
            self._asked(f"DELETE of {len(keys)} objects", lambda store: obstore.delete(store, list(keys)))
        except Refused as refused:
            if refused.failure.meaning != Meaning.ABSENT:
                raise self._failed(f"DELETE of {len(keys)} objects", refused.failure) from None

    def listing(self, prefix: str) -> Iterator[Listed]:
        """Yields the keys below a prefix, in their order. Raises StoreError.

        If the listing breaks off, a new request continues after the last key.
        """
        last: str | None = None
        while True:
            chunk = self._page(prefix, last)
            yield from chunk
            if not chunk:
                return
            last = chunk[-1].key

    def _page(self, prefix: str, after: str | None) -> list[Listed]:
        def ask(store: S3Store) -> list[Listed]:
            stream = obstore.list(store, prefix, offset=after, chunk_size=1000)
            for chunk in stream:
                return [
                    Listed(one["path"], one["size"], one["last_modified"].timestamp(), one["e_tag"])
                    for one in chunk
                ]
            return []

        try:
            return self._asked(f"LIST {prefix}", ask)
        except Refused as refused:
            raise self._failed(f"LIST {prefix}", refused.failure) from None

    def _asked(self, what: str, ask: Callable[[S3Store], T]) -> T:
        """Calls `ask` to make a request, and calls it again while that may help. `what`: the name of the
        request in errors. Raises StoreError, and Refused for a failure that the caller must judge."""
        end = self._monotonic() + self._patience
        attempt = renewals = 0
        while True:
            store = self._connection.store
            with self.pace.turn() as ticket:
                try:
                    answer = ask(store)
                except (BaseError, OSError, ValueError) as error:
                    failure = read_failure(error)
                else:
                    self.pace.went_well()
                    return answer
            if failure.meaning == Meaning.TOO_FAST:
                self.pace.slow_down(ticket)
            elif failure.meaning == Meaning.CREDENTIALS:
                renewals += 1
                if renewals > RENEWALS or not self._connection.renewed(store):
                    raise self._failed(what, failure)
                continue
            elif failure.meaning != Meaning.PASSING:
                raise Refused(failure)
            attempt += 1
            pause = min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE) * random.uniform(0.5, 1)  # noqa: S311
            if self._monotonic() + pause > end:
                raise self._failed(what, failure, attempt)
            self._pause(pause)

    def _failed(self, what: str, failure: Failure, attempts: int = 1) -> StoreError:
        kind = Unsupported if failure.text.startswith("status 501") else StoreError
        often = f", {attempts} times in {self._patience:.0f} s" if attempts > 1 else ""
        return kind(f"store {self.location}: {what}: {failure.text}{often}{_advice(failure)}")


def _advice(failure: Failure) -> str:
    if "NoSuchBucket" in failure.text:
        return ": make the bucket first, lazyfs makes none"
    if failure.meaning == Meaning.CREDENTIALS:
        return (
            ": the account may not do this, or its credentials are over; it needs s3:GetObject, "
            "s3:PutObject, s3:DeleteObject and s3:ListBucket"
        )
    return ""
