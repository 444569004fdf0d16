"""Whose a cache directory is, and whether its index may be believed.

The first process to open a cache decides: an index whose machine was rebooted without a clean close is never
opened (a torn LMDB file can crash the process that maps it); it is deleted and rebuilt from the files. While
others have the cache open, a newcomer takes what they agreed on. All of it happens under the change lock,
but for `prepare`.
"""

import os
import shutil

from lazyfs_cache.errors import CacheError, UnusableDirectory
from lazyfs_cache.files import layout
from lazyfs_cache.files import state_file as state
from lazyfs_cache.files.filesystem import boot_id, network_type
from lazyfs_cache.policy import limits as space

_OURS = {
    layout.STATE, layout.STATE + ".new", layout.LOCK, layout.PRESENCE, layout.OWNERS, layout.CLAIMS,
    layout.DATA, layout.TMP, layout.PINS, "lost+found",
}  # fmt: skip


def prepare(root: str, limit: int | None) -> None:
    """Make the directory a cache of this user's, or raise UnusableDirectory saying why it cannot be one.

    Without a limit the cache must exist.
    """
    if limit is not None and limit < space.MIN_LIMIT:
        raise CacheError(f"cache {root}: limit {limit} is too small; give at least {space.MIN_LIMIT} bytes")
    if limit is None and not os.path.exists(os.path.join(root, layout.STATE)):
        raise UnusableDirectory(f"cache {root}: there is no cache; give the directory of one")
    try:
        os.makedirs(root, mode=0o700, exist_ok=True)
        kind = network_type(root)
        owner = os.stat(root).st_uid
        above = os.stat(os.path.dirname(root)).st_uid
        names = set(os.listdir(root))
    except OSError as error:
        raise UnusableDirectory(f"cache {root}: {error.strerror}; give another directory") from error
    if kind is not None:
        raise UnusableDirectory(
            f"cache {root}: on a network filesystem ({kind}), which several machines may write; give a local "
            f"directory, or use this one as a read-only lower cache"
        )
    if owner != os.geteuid():
        raise UnusableDirectory(
            f"cache {root}: belongs to user {owner}, not to {os.geteuid()}; one user's cache serves no other"
        )
    if above not in (0, owner):
        raise UnusableDirectory(
            f"cache {root}: lies in a directory of user {above}, who could replace it; give one of your own"
        )
    if any(name not in _OURS and not name.startswith(layout.INDEX) for name in names):
        raise UnusableDirectory(f"cache {root}: holds files that are not a cache's; give an empty directory")
    try:
        os.chmod(root, 0o700)
        for name in (layout.DATA, layout.TMP, layout.PINS):
            os.makedirs(os.path.join(root, name), mode=0o700, exist_ok=True)
    except OSError as error:
        raise UnusableDirectory(f"cache {root}: {error.strerror}; give another directory") from error


def agree(root: str, limit: int | None, policy: state.Policy | None, *, alone: bool) -> state.State:
    """The state to work under. Alone, this process decides, and deletes an index that may be torn, or is of
    the format before; otherwise the state is the one in force.

    Raises UnusableDirectory if there is none to go by.
    """
    found = state.load(root)
    here = boot_id()
    if not alone:
        if found is None:
            raise UnusableDirectory(f"cache {root}: in use, but without {layout.STATE}; close it everywhere")
        if found.format != layout.FORMAT:
            raise UnusableDirectory(f"cache {root}: in use by an earlier version; close it everywhere")
        return found
    if found is None and limit is None:
        raise UnusableDirectory(f"cache {root}: {layout.STATE} is not readable; mount with it once")
    generation = found.generation if found is not None else 0
    if found is None or found.format != layout.FORMAT or not (found.clean or found.boot == here):
        for name in os.listdir(root):
            if name.startswith(layout.INDEX):
                shutil.rmtree(os.path.join(root, name))
        generation += 1
    known = limit or (found.limit if found is not None else space.MIN_LIMIT)
    agreed = state.State(
        boot=here,
        generation=generation,
        limit=known,
        policy=policy or (found.policy if found is not None else "lru"),
        map_size=space.map_size(known),
        clean=False,
    )
    state.save(root, agreed)
    return agreed


def out_of_proportion(root: str, generation: int, limit: int) -> bool:
    """Whether an index, which never shrinks, takes more than a quarter of a limit that was lowered: one made
    from the files takes a twelfth at most."""
    try:
        size = os.stat(os.path.join(index_path(root, generation), "data.mdb")).st_size
    except FileNotFoundError:
        return False
    return size > max(limit // 4, space.MIN_LIMIT)


def index_path(root: str, generation: int) -> str:
    return os.path.join(root, f"{layout.INDEX}{generation}")


def set_aside(root: str, generation: int, *, keep: bool = True) -> None:
    """Keep a damaged index, and no older one; or none."""
    aside = os.path.join(root, layout.ASIDE)
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(index_path(root, generation), aside)
    if not keep:
        shutil.rmtree(aside, ignore_errors=True)
