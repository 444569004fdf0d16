"""The lease of the one process that may delete objects of a store."""

import logging
import secrets
import time
from collections.abc import Callable

import msgspec

from lazyfs.core.errors import LazyfsError
from lazyfs.repository.collection_state import CollectionState, Lease, ObjectList, change_state, read_state
from lazyfs.store import Store, StoreConflict

log = logging.getLogger(__name__)

LENGTH = 600.0
"""Seconds after which the lease expires unless it is renewed. No request to a store takes nearly as long."""


class CollectorLost(StoreConflict):
    """This collector has not renewed its lease in time, and another collector may have taken over."""


class CollectorLease:
    """The right to delete objects of a store; one process at a time has it. To be used by one thread."""

    def __init__(
        self,
        store: Store,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        """Takes the lease. Raises StoreConflict if another collector is under way, StoreError."""
        self._store = store
        self._monotonic = monotonic
        self._pause = pause
        self._token = secrets.token_hex(16)
        self._renewed = 0.0
        self._set(first=True)

    def _set(self, *, first: bool) -> None:
        def taken(state: CollectionState) -> CollectionState:
            now = self._store.now()
            there = state.collector
            mine = there is not None and there.token == self._token
            if first and there is not None and there.until > now and not mine:
                raise StoreConflict(
                    f"another collection is under way, and was heard of {now + LENGTH - there.until:.0f} s "
                    "ago: wait for it to end"
                )
            if not first and not (mine and there is not None and there.until > now):
                raise CollectorLost(f"this collection was not heard of for {LENGTH:.0f} s: run it again")
            since = there.since if mine and there is not None else now
            return msgspec.structs.replace(state, collector=Lease(self._token, since, now + LENGTH))

        change_state(self._store, taken, self._pause)
        self._renewed = self._monotonic()

    def keep_alive(self) -> None:
        """Renews the lease if a third of its length has passed. Raises CollectorLost if it has expired."""
        if self._monotonic() - self._renewed > LENGTH / 3:
            self._set(first=False)

    def may_delete(self, listed: ObjectList) -> bool:
        """Returns True if the objects of this list are still to be deleted, and by this collector."""
        state = read_state(self._store)
        return (
            state.listed == listed
            and listed.deleting
            and state.collector is not None
            and state.collector.token == self._token
            and state.collector.until > self._store.now()
        )

    def end_if_possible(self) -> None:
        """Ends the lease. If that fails, only warns: the lease then expires by itself."""
        try:
            self.end()
        except LazyfsError as error:
            log.warning("the store keeps the lease of this collection for %.0f s: %s", LENGTH, error)

    def end(self) -> None:
        """Ends the lease, so that another process may delete objects."""

        def without(state: CollectionState) -> CollectionState:
            mine = state.collector is not None and state.collector.token == self._token
            return msgspec.structs.replace(state, collector=None) if mine else state

        change_state(self._store, without, self._pause)
