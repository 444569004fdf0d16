"""Reading and checking everything: the work of `lazyfs cache verify`. The values' files lie in 256 fan-out
directories under data/, which are called by their numbers."""

from lazyfs_cache.files import layout, sealed
from lazyfs_cache.process.adopting import SCANNED, on_their_way
from lazyfs_cache.process.shared_index import SharedIndex
from lazyfs_cache.process.suspects import Suspects
from lazyfs_cache.report import Verified


def verify(shared: SharedIndex, suspects: Suspects) -> Verified:
    """Checks every value on the disk and every entry of the index, and repairs faults. Stops if the cache is
    turned off."""
    values = size = damaged = orphans = 0
    for directory in range(SCANNED):
        found = _check_values(shared, suspects, directory)
        values += found.values
        size += found.bytes
        damaged += found.damaged
        removed = _remove_orphans(shared, directory)
        if removed is None:
            break
        orphans += removed
    return Verified(
        values=values, bytes=size, damaged=damaged, orphans=orphans, missing=_forget_missing(shared)
    )


def _check_values(shared: SharedIndex, suspects: Suspects, directory: int) -> Verified:
    """Reads every value of one fan-out directory. Adds the keys of damaged ones to `suspects`, which the next
    transaction removes."""
    values = size = damaged = 0
    for name in shared.files.names(directory):
        key = layout.key_of(layout.FAN_OUT[directory], name)
        if key is None:
            continue
        try:
            value = shared.files.whole(key)
        except sealed.Damaged:
            damaged += 1
            suspects.add(key)
            continue
        except OSError as error:
            shared.health.fail(error)
            continue
        if value is not None:
            values += 1
            size += len(value)
    return Verified(values=values, bytes=size, damaged=damaged, orphans=0, missing=0)


def _remove_orphans(shared: SharedIndex, directory: int) -> int | None:
    """Removes the files of one fan-out directory that have no entry in the index. Returns their number; None
    if the index lock could not be taken."""
    orphans = 0
    with shared.transaction() as transaction:
        if transaction is None:
            return None
        names = shared.files.names(directory)
        others = on_their_way(transaction, shared.files.root)
        for name in names:
            key = layout.key_of(layout.FAN_OUT[directory], name)
            if key is None:
                shared.files.remove_name(directory, name)
                orphans += 1
            elif transaction.entry(key) is None and key not in others and not transaction.sums.unscanned:
                shared.files.remove(key)
                orphans += 1
    return orphans


def _forget_missing(shared: SharedIndex) -> int:
    """Removes the entries of the index whose files are gone; returns how many there were."""
    count = 0
    for page in shared.pages(256):
        with shared.transaction() as transaction:
            if transaction is None:
                return count
            for key, _ in page:
                entry = transaction.entry(key)
                if entry is not None and not shared.files.here(key):
                    transaction.forget(key, entry)
                    count += 1
    return count
