"""The index in use, its limit and its policy: the facts on which all processes agree.

The first process to open a cache decides. After a reboot without a clean close it never opens the index,
because a torn LMDB file can crash the process that maps it; the index is deleted and rebuilt from the files.
While others have the cache open, a newcomer takes over their agreement.
"""

from lazyfs_cache.errors import CacheError, UnusableDirectory
from lazyfs_cache.files import directory, layout, state_file
from lazyfs_cache.files.filesystem import boot_id
from lazyfs_cache.index import database
from lazyfs_cache.policy.sizes import MIN_LIMIT


def check_limit(root: str, limit: int) -> None:
    """Raises CacheError if the limit is too small for any cache."""
    if limit < MIN_LIMIT:
        raise CacheError(f"cache {root}: limit {limit} is too small; give at least {MIN_LIMIT} bytes")


def agree(
    root: str, limit: int | None, policy: state_file.Policy | None, *, alone: bool
) -> state_file.CacheState:
    """Returns the state (index generation, limit, policy) to work under. A process that is alone decides, and
    deletes an index that may be torn or has an older format; otherwise the state is the one in force. The
    caller holds the index lock. `limit`, `policy`: those that the caller asks for; None for those last in
    force.

    Raises UnusableDirectory if others have the cache open but there is no state.
    """
    found = state_file.load(root)
    boot = boot_id()
    if not alone:
        if found is None:
            raise UnusableDirectory(f"cache {root}: in use, but without {layout.STATE}; close it everywhere")
        if found.format != layout.FORMAT:
            raise UnusableDirectory(f"cache {root}: in use by an earlier version; close it everywhere")
        return found
    if found is None and limit is None:
        raise UnusableDirectory(f"cache {root}: {layout.STATE} is not readable; mount with it once")
    generation = found.generation if found is not None else 0
    if found is None or found.format != layout.FORMAT or not (found.clean or found.boot == boot):
        directory.delete_indexes(root)
        generation += 1
    known = limit or (found.limit if found is not None else MIN_LIMIT)
    agreed = state_file.CacheState(
        boot=boot,
        generation=generation,
        limit=known,
        policy=policy or (found.policy if found is not None else "lru"),
        map_size=database.map_size(known),
        clean=False,
    )
    state_file.save(root, agreed)
    return agreed
