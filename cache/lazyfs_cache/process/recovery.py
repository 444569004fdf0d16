"""Brings index and files in step after a process died.

A process notes a key in its journal before it adds or removes the key's file, so after its death only the
keys in its journal can be out of step.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from lazyfs_cache.files import journal, layout
from lazyfs_cache.files.value_files import ValueFiles
from lazyfs_cache.index.rows import KEPT
from lazyfs_cache.index.transaction import Transaction
from lazyfs_cache.process.locks import ByteLocks


def clean_up_dead(transaction: Transaction, files: ValueFiles, owners: ByteLocks, me: int) -> int:
    """Undoes the unfinished work of processes that died, and drops their pins. Returns the number of these
    processes. `me`: this process's owner number."""
    dead = [owner for owner in transaction.all_owners() if owner != me and not owners.taken(owner)]
    for owner in dead:
        for key in journal.read(files.root, owner):
            reconcile(transaction, files, key)
        for slot in (*range(journal.SLOTS), *journal.SPARES):
            files.discard_tmp(journal.tmp_name(owner, slot))
        files.discard_tmp(journal.name(owner))
        for label, key in transaction.pins_of(owner):
            transaction.unpin(key, owner, label)
        transaction.drop_owner(owner)
    if transaction.sums.scanner in dead:
        transaction.sums.scanner = me
    return len(dead)


def reconcile(transaction: Transaction, files: ValueFiles, key: bytes) -> None:
    """Brings a key's entry in the index and its file into agreement: an entry without a file is removed, and
    so is a file without an entry. Charges the file's directory too, which may be new."""
    entry = transaction.entry(key)
    if entry is None:
        files.remove(key)
    elif not files.here(key):
        transaction.forget(key, entry)
    measure_directory(transaction, files, layout.directory_of(key))


def measure_directory(transaction: Transaction, files: ValueFiles, number: int) -> None:
    """Charges fan-out directory `number`, one of the 256 under data/, with the bytes that it occupies now:
    names were added to it or removed."""
    transaction.set_directory(number, files.directory_used(number))


def restore_pin_sets(transaction: Transaction, sets: Mapping[bytes, Sequence[bytes]]) -> None:
    """Pins exactly the keys that the files of pin sets name: a process may have died between writing a file
    and committing its pins. `sets`: the keys of each pin set, by its label."""
    held: dict[bytes, set[bytes]] = defaultdict(set)
    for label, key in transaction.pins_of(KEPT):
        held[label].add(key)
    for label in held.keys() | sets.keys():
        wanted = set(sets.get(label, ()))
        for key in held[label] - wanted:
            transaction.unpin(key, KEPT, label)
        for key in wanted - held[label]:
            transaction.pin(key, KEPT, label)
