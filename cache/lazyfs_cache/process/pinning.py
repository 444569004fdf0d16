"""Pins: values that eviction passes over, for as long as a process or an operator wants them."""

from collections.abc import Callable, Mapping

from lazyfs_cache.errors import CacheError, PinSetTooLarge
from lazyfs_cache.files import pin_sets as pinsets
from lazyfs_cache.index.rows import KEPT
from lazyfs_cache.index.transaction import Change
from lazyfs_cache.process.shared_index import Ledger


class Pinning:
    """Pins of processes (`pin`), which end with them, and pin sets (`keep`), which do not."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._space = ledger.space

    def pin(self, key: bytes, owner: bytes) -> bool:
        """Keep a value from being evicted until `unpin` or this process's end; False if it is not here.

        Raises PinSetTooLarge if the pinned values together would leave too little room for anything else.
        """
        _check_label(owner)
        with self._ledger.change() as change:
            if change is not None:
                entry = change.entry(key)
                if entry is None:
                    return False
                self._afford(change, 0 if entry.pins else entry.charge)
                change.pin(key, self._ledger.seat.me, owner)
        return change is not None and change.committed

    def unpin(self, key: bytes, owner: bytes) -> bool:
        """Undo `pin`: the value goes back to its place in the order of use. False if the lock was not had:
        the pin may still be there."""
        with self._ledger.change() as change:
            if change is not None:
                change.unpin(key, self._ledger.seat.me, owner)
        return change is not None and change.committed

    def keep(self, label: bytes, sizes: Mapping[bytes, int]) -> int:
        """Pin a set of keys, each with its value's size, beyond this process's end, in place of the set of
        that label; returns how many of them are here. Those that are not are pinned when they come.

        Raises PinSetTooLarge, and CacheError if the set could not be written.
        """
        _check_label(label)
        here = 0

        def pin(change: Change) -> None:
            nonlocal here
            for _, key in change.pins_of(KEPT, label):
                change.unpin(key, KEPT, label)
            here = charge = 0
            for key, size in sizes.items():
                entry = change.entry(key)
                here += entry is not None
                if entry is None:
                    charge += self._ledger.disk.cost(size)
                elif not entry.pins:
                    charge += entry.charge
            self._afford(change, charge)
            for key in sizes:
                change.pin(key, KEPT, label)
            pinsets.save(self._ledger.root, label, list(sizes))
            self._space.count_sets(change)

        self._change_set(len(sizes), pin, "nothing was pinned")
        return here

    def drop(self, label: bytes) -> int:
        """Give up a pin set; returns how many keys it had. Raises CacheError if that could not be written."""
        _check_label(label)
        count = 0

        def unpin(change: Change) -> None:
            nonlocal count
            pins = change.pins_of(KEPT, label)
            count = len(pins)
            for _, key in pins:
                change.unpin(key, KEPT, label)
            pinsets.remove(self._ledger.root, label)
            self._space.count_sets(change)

        self._change_set(len(pinsets.load(self._ledger.root, label)), unpin, "nothing changed")
        return count

    def _change_set(self, count: int, what: Callable[[Change], None], otherwise: str) -> None:
        """In a change that writes `count` pins, which no slack covers: room for that is made first, as far as
        it goes; where everything is pinned a set must go all the same."""
        growth = self._space.growth_of_pins(count)
        self._ledger.shrink(lambda change: self._space.need(change, growth))
        if not self._ledger.carry_out(what):
            raise CacheError(f"cache {self._ledger.root}: {self._ledger.off or 'lock not had'}; {otherwise}")

    def kept(self) -> dict[bytes, list[bytes]]:
        """The pin sets: label -> keys."""
        return dict(pinsets.load_all(self._ledger.root))

    def _afford(self, change: Change, more: int) -> None:
        if more and not self._space.pinnable(change.sums, more):
            raise PinSetTooLarge(
                f"cache {self._ledger.root}: pinned values would take {change.sums.pinned + more} bytes of a "
                f"limit of {change.sums.limit}; unpin something or raise the limit"
            )


def _check_label(label: bytes) -> None:
    if not 0 < len(label) <= pinsets.MAX_LABEL:
        raise CacheError(f"label {label!r}: must have 1 to {pinsets.MAX_LABEL} bytes")
