"""Pins: values that are not evicted, for as long as a process or an operator wants them."""

from collections.abc import Callable, Mapping

from lazyfs_cache.errors import CacheError
from lazyfs_cache.files import pin_sets, usage
from lazyfs_cache.index.rows import KEPT
from lazyfs_cache.index.transaction import Transaction
from lazyfs_cache.process.pin_room import check_more_pins_fit
from lazyfs_cache.process.room import Room
from lazyfs_cache.process.shared_index import SharedIndex


class Pinning:
    """Pins of processes (`pin`), which end with the process, and pin sets (`keep`), which outlive it."""

    def __init__(self, shared: SharedIndex, room: Room) -> None:
        self._shared = shared
        self._room = room
        self._files = shared.files

    def pin(self, key: bytes, owner: bytes) -> bool:
        """Keeps a value from being evicted until `unpin` or this process's end. Returns False if it is not
        here. `owner`: a label that the caller chooses: a value can have one pin of this process for each
        label.

        Raises PinSetTooLarge if the pinned values together would leave too little room for anything else.
        """
        _check_label(owner)
        with self._shared.transaction() as transaction:
            if transaction is not None:
                entry = transaction.entry(key)
                if entry is None:
                    return False
                self._check_room(transaction, 0 if entry.pins else entry.charge)
                transaction.pin(key, self._shared.generation.owner, owner)
        return transaction is not None and transaction.committed

    def unpin(self, key: bytes, owner: bytes) -> bool:
        """Removes the pin with the label `owner`. A value that has no pin left returns to its place in the
        order of use. Returns False if the index lock could not be taken: the pin may still be there."""
        with self._shared.transaction() as transaction:
            if transaction is not None:
                transaction.unpin(key, self._shared.generation.owner, owner)
        return transaction is not None and transaction.committed

    def keep(self, label: bytes, sizes: Mapping[bytes, int]) -> int:
        """Pins a set of keys, each with its value's size, in place of the earlier set of that label. The pins
        outlive this process. Returns the number of keys that are here; the values of the other keys are
        pinned when they come.

        Raises PinSetTooLarge, and CacheError if the set could not be written.
        """
        _check_label(label)
        here = 0

        def pin(transaction: Transaction) -> None:
            nonlocal here
            for _, key in transaction.pins_of(KEPT, label):
                transaction.unpin(key, KEPT, label)
            here = charge = 0
            for key, size in sizes.items():
                entry = transaction.entry(key)
                here += entry is not None
                if entry is None:
                    charge += self._files.most_for_value(size)
                elif not entry.pins:
                    charge += entry.charge
            self._check_room(transaction, charge)
            for key in sizes:
                transaction.pin(key, KEPT, label)
            pin_sets.save(self._files.root, label, list(sizes))
            self._charge_sets(transaction)

        self._replace_set(len(sizes), pin, "nothing was pinned")
        return here

    def drop(self, label: bytes) -> int:
        """Gives up a pin set. Returns the number of its keys. Raises CacheError if the change could not be
        written."""
        _check_label(label)
        count = 0

        def unpin(transaction: Transaction) -> None:
            nonlocal count
            pins = transaction.pins_of(KEPT, label)
            count = len(pins)
            for _, key in pins:
                transaction.unpin(key, KEPT, label)
            pin_sets.remove(self._files.root, label)
            self._charge_sets(transaction)

        self._replace_set(len(pin_sets.load(self._files.root, label)), unpin, "nothing changed")
        return count

    def kept(self) -> dict[bytes, list[bytes]]:
        """Returns the keys of each pin set, by the set's label."""
        return dict(pin_sets.load_all(self._files.root))

    def _replace_set(self, count: int, act: Callable[[Transaction], None], otherwise: str) -> None:
        """Calls `act` in a transaction that writes `count` pins. The pins' rows and file may need more space
        than is kept free for a transaction, so values are evicted for them first. Goes on even if no value
        can be evicted: a set must be droppable if everything is pinned. `otherwise`: the end of the error's
        text if the transaction fails."""
        self._room.shrink(lambda limits, sums: limits.shortfall(sums, limits.growth_of_pins(count)))
        if not self._shared.carry_out(act):
            why = self._shared.health.off or "lock not got"
            raise CacheError(f"cache {self._files.root}: {why}; {otherwise}")

    def _charge_sets(self, transaction: Transaction) -> None:
        """Charges the files of pin sets, which all processes share, after one was added or removed."""
        transaction.sums.pin_sets = usage.pin_set_bytes(self._files.root, self._files.block)

    def _check_room(self, transaction: Transaction, more: int) -> None:
        limits = self._shared.generation.limits
        check_more_pins_fit(self._files.root, limits, transaction.sums, more)


def _check_label(label: bytes) -> None:
    if not 0 < len(label) <= pin_sets.MAX_LABEL:
        raise CacheError(f"label {label!r}: must have 1 to {pin_sets.MAX_LABEL} bytes")
