"""The steps of a rebuild, which enters the values' files, in 256 fan-out directories under data/, into a new
index."""

from lazyfs_cache.files import journal, layout, sealed
from lazyfs_cache.files.value_files import ValueFiles
from lazyfs_cache.index.transaction import Transaction
from lazyfs_cache.process.locks import ByteLocks
from lazyfs_cache.process.recovery import measure_directory

SCANNED = 256
"""The value of `Sums.scan` when a rebuild has no fan-out directory left to look at."""

FILES_PER_TRANSACTION = 256
"""The largest number of files that a rebuild adopts in one transaction: about 3 ms."""


def orphaned(name: str, owners: ByteLocks, me: int) -> bool:
    """Returns True if a file in tmp/ with this name belongs to a dead process, or to no cache. `me`: this
    process's owner number."""
    owner = journal.owner_of(name)
    return owner is None or (owner != me and not owners.taken(owner))


def on_their_way(transaction: Transaction, root: str) -> set[bytes]:
    """Returns the keys of the values that processes are storing or removing. A file in data/ without an entry
    whose key is not among them belongs to no process: ask after the file was seen, within one transaction."""
    return {key for owner in transaction.all_owners() for key in journal.read(root, owner)}


def adopt(transaction: Transaction, files: ValueFiles, directory: int, names: list[str]) -> None:
    """Enters the files called `names` in a fan-out directory, as values that were last used when they were
    written; deletes files that are not values.

    The charge of the entered files moves from `unscanned` to the entries, so that the total never seems
    smaller than it is. The files of values on their way stay out: they are charged to the process that stores
    them, which enters them itself. One byte of `unscanned` always stays, as the sign that a rebuild is under
    way. The files' bytes are checked when they are read.
    """
    sums = transaction.sums
    others = on_their_way(transaction, files.root)
    for name in names:
        key = layout.key_of(layout.FAN_OUT[directory], name)
        if key is None:
            files.remove_name(directory, name)
            continue
        status = files.status(key)
        if status is None or key in others or transaction.entry(key) is not None:
            continue
        size = sealed.value_size(status.st_size)
        if size is None:
            files.remove(key)
            continue
        charge = max(status.st_blocks * 512, files.rounded(size))
        used = min(max(status.st_mtime_ns // 1000, 0), sums.tick)  # the clock may have been before 1970
        transaction.insert(key, size, charge, used=used)
        sums.unscanned -= min(charge, max(sums.unscanned - 1, 0))
    measure_directory(transaction, files, directory)
