"""Putting the index and the files in step again, after a process died or the index was lost.

A process notes a key in its journal before it gives it a file or takes it away, so after its death only the
keys in its journal can be out of step.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from lazyfs_cache.files import journal, layout, sealed
from lazyfs_cache.files.value_files import Disk
from lazyfs_cache.index.rows import KEPT
from lazyfs_cache.index.transaction import Change
from lazyfs_cache.process.locks import ByteLocks

SCANNED = 256
"""`Sums.scan` when a rebuild has no fan-out directory left to look at."""

FILES_PER_CHANGE = 256
"""Files a rebuild adopts while it holds the change lock once: about 3 ms."""


def orphaned(name: str, owners: ByteLocks, me: int) -> bool:
    """Whether a name in tmp/ was left behind by a process that is dead, or is no cache's at all."""
    owner = journal.owner_of(name)
    return owner is None or (owner != me and not owners.taken(owner))


def bury(change: Change, disk: Disk, owners: ByteLocks, me: int) -> int:
    """Undo what processes that died had begun, and drop their pins; returns how many had died."""
    dead = [owner for owner in change.all_owners() if owner != me and not owners.taken(owner)]
    for owner in dead:
        for key in journal.read(disk.root, owner):
            reconcile(change, disk, key)
        for slot in range(journal.SLOTS + journal.POOL):
            disk.discard_tmp(journal.tmp_name(owner, slot))
        disk.discard_tmp(journal.name(owner))
        for label, key in change.pins_of(owner):
            change.unpin(key, owner, label)
        change.drop_owner(owner)
    if change.sums.scanner in dead:
        change.sums.scanner = me
    return len(dead)


def reconcile(change: Change, disk: Disk, key: bytes) -> None:
    """Make entry and file of one key agree: whichever is there alone goes. The directory may be new."""
    entry = change.entry(key)
    if entry is None:
        disk.remove(key)
    elif disk.length(key) is None:
        change.forget(key, entry)
    number = layout.bucket(key)
    change.set_folder(number, disk.directory_used(number))


def pin_sets(change: Change, sets: Mapping[bytes, Sequence[bytes]]) -> None:
    """Pin what the files of pin sets name, label -> keys, and nothing else: a process may have died between
    writing a file and committing what it says."""
    held: dict[bytes, set[bytes]] = defaultdict(set)
    for label, key in change.pins_of(KEPT):
        held[label].add(key)
    for label in held.keys() | sets.keys():
        wanted = set(sets.get(label, ()))
        for key in held[label] - wanted:
            change.unpin(key, KEPT, label)
        for key in wanted - held[label]:
            change.pin(key, KEPT, label)


def adopt(change: Change, disk: Disk, directory: int, names: list[str]) -> None:
    """Enter files found in a fan-out directory into an index that does not know them, as last used when they
    were written; delete what is no value. Their charge moves from what is unscanned, so that the whole never
    seems smaller than it is; a byte of that stays, because it says that the rebuild is not over. Their bytes
    are checked when they are read."""
    sums = change.sums
    for name in names:
        key = layout.key_of(layout.FAN_OUT[directory], name)
        if key is None:
            disk.remove_name(directory, name)
            continue
        found = disk.found(key)
        if found is None or change.entry(key) is not None:
            continue
        size = sealed.value_size(found.st_size)
        if size is None:
            disk.remove(key)
            continue
        charge = max(found.st_blocks * 512, disk.rounded(size))
        used = min(max(found.st_mtime_ns // 1000, 0), sums.tick)  # some clock may have been before 1970
        change.insert(key, size, charge, used=used)
        sums.unscanned -= min(charge, max(sums.unscanned - 1, 0))
    change.set_folder(directory, disk.directory_used(directory))
