"""The cache directory itself, which must be this user's alone, and the index directories in it."""

import os

from lazyfs_cache.errors import UnusableDirectory
from lazyfs_cache.files import layout
from lazyfs_cache.files.filesystem import network_type
from lazyfs_cache.files.ownership import check_contents, others_can_write

_OURS = {
    layout.STATE, layout.STATE + ".new", layout.LOCK, layout.PRESENCE, layout.OWNERS, layout.DOWNLOADS,
    layout.DATA, layout.TMP, layout.PINS, "lost+found",
}  # fmt: skip


def prepare(root: str, *, new: bool) -> None:
    """Prepares the directory for a cache of this user. `new`: True if the cache may have to be made.

    Raises UnusableDirectory, with the reason, if the directory cannot hold a cache.
    """
    if not new and not os.path.exists(os.path.join(root, layout.STATE)):
        raise UnusableDirectory(f"cache {root}: there is no cache; give the directory of one")
    try:
        os.makedirs(root, mode=0o700, exist_ok=True)
        kind = network_type(root)
        found = os.stat(root)
        names = set(os.listdir(root))
    except OSError as error:
        raise UnusableDirectory(f"cache {root}: {error.strerror}; give another directory") from error
    if kind is not None:
        raise UnusableDirectory(
            f"cache {root}: on a network filesystem ({kind}), which several machines may write; give a local "
            f"directory, or use this one as a read-only lower cache"
        )
    if found.st_uid != os.geteuid():
        raise UnusableDirectory(
            f"cache {root}: belongs to user {found.st_uid}, not to {os.geteuid()}; "
            f"one user's cache serves no other"
        )
    if any(name not in _OURS and not name.startswith(layout.INDEX) for name in names):
        raise UnusableDirectory(f"cache {root}: holds files that are not a cache's; give an empty directory")
    if names and others_can_write(found):
        raise UnusableDirectory(
            f"cache {root}: others may write to it, and its files may be theirs; "
            f"give another directory, or empty it and chmod 0700 {root}"
        )
    try:
        os.chmod(root, 0o700)
        check_contents(root)
        for name in (layout.DATA, layout.TMP, layout.PINS):
            os.makedirs(os.path.join(root, name), mode=0o700, exist_ok=True)
    except OSError as error:
        raise UnusableDirectory(f"cache {root}: {error.strerror}; give another directory") from error


def index_path(root: str, generation: int) -> str:
    """Returns the directory of one generation of the index."""
    return os.path.join(root, f"{layout.INDEX}{generation}")


def set_index_aside(root: str, generation: int, *, keep: bool) -> None:
    """Moves an index that no process opens any more to index-aside, in place of the index moved there before.
    Without `keep`, deletes both indexes."""
    import shutil  # imported only here: it takes 3 ms, and only a damaged index needs it

    aside = os.path.join(root, layout.ASIDE)
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(index_path(root, generation), aside)
    if not keep:
        shutil.rmtree(aside, ignore_errors=True)


def delete_strays(root: str, generation: int) -> None:
    """Deletes the indexes of other generations than this one, which a process has left that was killed before
    it set them aside."""
    for name in os.listdir(root):
        path = os.path.join(root, name)
        if name.startswith(layout.INDEX) and name != layout.ASIDE and path != index_path(root, generation):
            import shutil  # imported only here: it takes 3 ms

            shutil.rmtree(path)


def delete_indexes(root: str) -> None:
    """Deletes the indexes of all generations, and the one set aside, without opening them."""
    import shutil

    for name in os.listdir(root):
        if name.startswith(layout.INDEX):
            shutil.rmtree(os.path.join(root, name))
