"""Reading everything: what `lazyfs cache verify` does."""

from lazyfs_cache.files import journal, layout, sealed
from lazyfs_cache.process import recovery
from lazyfs_cache.process.shared_index import Ledger
from lazyfs_cache.report import Verified


def verify(ledger: Ledger) -> Verified:
    """Check every value on the disk and every entry of the index; repair what is wrong. Stops where the cache
    goes off."""
    values = size = damaged = orphans = 0
    for directory in range(recovery.SCANNED):
        for name in ledger.disk.names(directory):
            key = layout.key_of(layout.FAN_OUT[directory], name)
            try:
                value = ledger.disk.whole(key) if key is not None else None
            except sealed.Damaged:
                damaged += 1
                assert key is not None
                ledger.uses.damaged(key)
                continue
            except OSError as error:
                ledger.fail(error)
                continue
            if value is not None:
                values += 1
                size += len(value)
        with ledger.change() as change:
            if change is None:
                break
            on_their_way = {key for owner in change.all_owners() for key in journal.read(ledger.root, owner)}
            for name in ledger.disk.names(directory):
                key = layout.key_of(layout.FAN_OUT[directory], name)
                if key is None:
                    ledger.disk.remove_name(directory, name)
                    orphans += 1
                elif change.entry(key) is None and key not in on_their_way and not change.sums.unscanned:
                    ledger.disk.remove(key)
                    orphans += 1
    return Verified(values=values, bytes=size, damaged=damaged, orphans=orphans, missing=_missing(ledger))


def _missing(ledger: Ledger) -> int:
    """Forget entries whose files are gone; returns how many there were."""
    count = 0
    for page in ledger.pages(256):
        with ledger.change() as change:
            if change is None:
                return count
            for key, _ in page:
                entry = change.entry(key)
                if entry is not None and ledger.disk.length(key) is None:
                    change.forget(key, entry)
                    count += 1
    return count
