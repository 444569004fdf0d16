"""Putting the index and the files in step again, after a process died or the index was lost.

A process notes what it is about to do (an intent) before it touches a file, so after its death only the keys
of its intents and the first values in the order of use (evictions cut short) can be out of step.
"""

from lazyfs_cache import layout, sealed
from lazyfs_cache.disk import Disk
from lazyfs_cache.index import Change
from lazyfs_cache.locks import ByteLocks

HOLDER_KEPT = 0
"""Holder number of pins that outlive processes."""

SCANNED = 256
"""`Sums.scan` when no fan-out directory is left to look at."""


def tmp_name(owner: int, number: int) -> str:
    """The temporary file of an intent: named so that what a dead process left behind can be told."""
    return f"{owner}-{number}"


def bury(change: Change, disk: Disk, owners: ByteLocks, me: int) -> int:
    """Undo what processes that died had begun, and drop their pins; returns how many had died."""
    dead = {owner for owner in change.all_owners() if owner != me and not owners.taken(owner)}
    if not dead:
        return 0
    for number, intent in change.all_intents():
        if intent.owner in dead:
            disk.discard_tmp(tmp_name(intent.owner, number))
            reconcile(change, disk, intent.key)
            change.settle(number)
    for owner in dead:
        for label, key in change.pins_of(owner):
            change.drop_pin(key, owner, label)
        change.drop_owner(owner)
    drop_missing(change, disk)
    return len(dead)


def reconcile(change: Change, disk: Disk, key: bytes) -> None:
    """Make the entry and the file of one key agree: whichever is there alone goes."""
    entry = change.entry(key)
    if entry is None:
        disk.remove(key)
    elif disk.file_length(key) is None:
        change.forget(key, entry)


def drop_missing(change: Change, disk: Disk) -> None:
    """Forget the values at the head of the order of use whose files an eviction had already removed."""
    while (oldest := change.oldest()) is not None and disk.file_length(oldest[0]) is None:
        change.forget(*oldest)


def adopt(change: Change, disk: Disk, directory: int, names: list[str]) -> None:
    """Enter files found in a fan-out directory into an index that does not know them; delete what is not a
    value. Their charge moves from what is unscanned, so the whole never seems smaller than it is."""
    sums = change.sums
    for name in names:
        key = layout.key_of(layout.FAN_OUT[directory], name)
        length = disk.file_length(key) if key is not None else None
        if key is None:
            disk.remove_name(directory, name)
        elif length is not None and change.entry(key) is None:
            size = sealed.value_size(length)
            if size is None:
                disk.remove(key)
                continue
            charge = max(disk.occupied(key), disk.rounded(size))
            change.insert(key, size, charge)
            sums.unscanned -= min(charge, sums.unscanned)
    occupied = disk.directory_used(directory)
    sums.unscanned -= min(occupied, sums.unscanned)
    change.set_folder(directory, occupied)
