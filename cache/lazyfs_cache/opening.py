"""Opening and closing a cache directory: whose it is, and whether the index may be believed.

Both run under the change lock. The first process to open decides: an index whose machine was rebooted
without a clean close is never opened (a torn LMDB file can crash the process that maps it), it is deleted
and rebuilt from the files. While others have the cache open, a newcomer takes what they agreed on.
"""

import os
import shutil

from lazyfs_cache import layout, space, state
from lazyfs_cache.errors import CacheError, UnusableDirectory
from lazyfs_cache.filesystem import boot_id, network_type, pid_namespace
from lazyfs_cache.locks import Presence


def prepare(root: str, limit: int) -> None:
    """Make the directory a cache of this user's, or raise UnusableDirectory saying why it cannot be one."""
    if limit < space.MIN_LIMIT:
        raise CacheError(f"cache limit {limit}: at least {space.MIN_LIMIT} bytes are needed")
    try:
        os.makedirs(root, mode=0o700, exist_ok=True)
        kind = network_type(root)
        owner = os.stat(root).st_uid
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
    if names - {"lost+found"} and not {layout.LOCK, layout.PRESENCE} <= names:
        raise UnusableDirectory(f"cache {root}: holds files that are not a cache's; give an empty directory")
    try:
        os.chmod(root, 0o700)
        for name in (layout.DATA, layout.TMP, layout.PINS):
            os.makedirs(os.path.join(root, name), mode=0o700, exist_ok=True)
    except OSError as error:
        raise UnusableDirectory(f"cache {root}: {error.strerror}; give another directory") from error


def agree(root: str, limit: int, presence: Presence) -> tuple[state.State, bool]:
    """The state to work under, and whether the index must be rebuilt from the files.

    Raises UnusableDirectory if processes of another PID namespace have the cache open.
    """
    found = state.load(root)
    here, namespace = boot_id(), pid_namespace()
    if not presence.alone():
        if found is None:
            raise UnusableDirectory(
                f"cache {root}: in use, but its {layout.STATE} is gone; close it everywhere"
            )
        if found.namespace != namespace:
            raise UnusableDirectory(
                f"cache {root}: in use from another PID namespace ({found.namespace}); give this one "
                f"a directory of its own"
            )
        return found, False
    usable = found is not None and (found.clean or found.boot == here)
    usable = usable and found is not None and os.path.exists(index_path(root, found.generation))
    generation = found.generation if found is not None else 0
    if not usable:
        for name in os.listdir(root):
            if name.startswith(layout.INDEX):
                shutil.rmtree(os.path.join(root, name))
        generation += 1
    agreed = state.State(
        boot=here, namespace=namespace, generation=generation, map_size=space.map_size(limit), clean=False
    )
    state.save(root, agreed)
    return agreed, not usable and any(os.scandir(os.path.join(root, layout.DATA)))


def index_path(root: str, generation: int) -> str:
    return os.path.join(root, f"{layout.INDEX}{generation}")
