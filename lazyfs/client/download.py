"""The download of one object, and a blocking downloader of single objects."""

import time
from collections.abc import Callable

from lazyfs.client.local_cache import LocalCache
from lazyfs.client.stored_sizes import StoredSizes
from lazyfs.core.codec import frame_bound, open_object
from lazyfs.core.digest import ObjectRef, object_path
from lazyfs.core.errors import DeadlineExceeded
from lazyfs.transport.fetcher import Fetcher, GivenUp, Request, still_wanted

_SLICE = 0.2
"""Seconds between two checks that a reader still waits, while a download waits for another process."""


def request_of(
    ref: ObjectRef,
    deadline: float,
    check_cancelled: Callable[[], None],
    *,
    optional: bool = False,
    sizes: StoredSizes | None = None,
) -> Request:
    """Returns the request for an object, whose bytes are verified on arrival. `optional`: True for an object
    that only a profile names, so that a server that lacks it is not at fault. `sizes` is told how many bytes
    came."""
    path = object_path(ref.digest)
    still = still_wanted(path, deadline, check_cancelled)

    def accept(frame: bytes) -> bytes:
        plain = open_object(frame, ref, still)
        if sizes is not None:
            sizes.came(len(frame), ref.size)
        return plain

    return Request(
        path,
        max_bytes=frame_bound(ref.size),
        deadline=deadline,
        accept=accept,
        may_be_missing=optional,
    )


class Download:
    """One object on its way. `plain` is set once its bytes are verified, before the cache admits them; if it
    fails, its end sets `error`."""

    def __init__(self, ref: ObjectRef, deadline: float, *, optional: bool = False) -> None:
        """`deadline`: on time.monotonic()'s clock. `optional`: True for an object that only a profile names:
        a server that lacks it is not at fault."""
        self.ref = ref
        self.deadline = deadline
        self.optional = optional
        self.given_up = False
        """True once no reader waits any more: the download's thread then stops within a fraction of a
        second."""
        self.plain: bytes | None = None
        self.error: BaseException | None = None

    def check(self) -> None:
        """Raises GivenUp if nobody waits any more. Thread-safe."""
        if self.given_up:
            raise GivenUp

    def take(self, call: Callable[[], bytes]) -> None:
        """Calls `call`, and ends the download with the call's result or exception."""
        try:
            self.plain = call()
        except BaseException as error:  # noqa: BLE001 (told to whoever waits)
            self.error = error


class Downloader:
    """Fetches, verifies and admits one object at a time. Blocking; thread-safe."""

    def __init__(self, fetcher: Fetcher, cache: LocalCache) -> None:
        self.sizes = StoredSizes()
        self._fetcher = fetcher
        self._cache = cache
        self.admitted = True
        """True if the cache admitted the last object."""

    def take(self, download: Download, arrived: Callable[[list[Download]], None]) -> None:
        """Brings the object of a Download as `download` does, and ends the Download. `arrived` is called with
        the Download, alone in a list, once its bytes are verified and before the cache admits them."""

        def here(plain: bytes) -> None:
            download.plain = plain
            arrived([download])

        download.take(
            lambda: self.download(
                download.ref, download.deadline, download.check, optional=download.optional, arrived=here
            )
        )

    def download(
        self,
        ref: ObjectRef,
        deadline: float,
        check_cancelled: Callable[[], None],
        *,
        optional: bool = False,
        arrived: Callable[[bytes], None] | None = None,
    ) -> bytes:
        """Returns the object's plaintext, from the cache if another process or flight has just put it there.

        The bytes are returned even if the cache does not admit them; `arrived` is called with them before
        it does. If another process is downloading the object already, and is stopped or slow, this call waits
        two seconds for it at most. `optional`: True for an object that only a profile names. Raises as
        Fetcher.fetch does.
        """
        started = time.monotonic()
        while True:
            waited = time.monotonic() - started
            claim = self._cache.claim(ref.digest, waited)
            if claim is not None:
                with claim:
                    plain = self._cache.get(ref.digest)
                    if plain is not None and len(plain) == ref.size:
                        return plain
                    request = request_of(ref, deadline, check_cancelled, optional=optional, sizes=self.sizes)
                    plain = self._fetcher.fetch(request, check_cancelled)
                    if arrived is not None:
                        arrived(plain)
                    self.admit(ref, plain)
                    return plain
            if not self._cache.wait(ref.digest, _SLICE, waited):
                check_cancelled()
                if time.monotonic() >= deadline:
                    raise DeadlineExceeded(
                        f"object {ref.digest.hex()}: another process did not fetch it by the deadline"
                    )

    def admit(self, ref: ObjectRef, plain: bytes) -> None:
        """Puts a verified object into the cache, if the cache has room for it."""
        # Space is taken only when the bytes are here, because the catalog's signer states the size: 61
        # objects that never came would each have pushed out as many bytes as were stated.
        self.admitted = self._cache.put(ref.digest, plain)
