"""The path of a mount's cache directory, and of the objects in it."""

import os

from lazyfs.core.errors import UsageError
from lazyfs.system.user_namespace import is_root_of_node


def default_cache() -> str:
    """Returns the cache directory of a mount that names none: /var/cache/lazyfs for root; for other users the
    directory lazyfs below XDG_CACHE_HOME or ~/.cache.

    Raises UsageError for a user without a home.
    """
    if is_root_of_node():
        return "/var/cache/lazyfs"
    above = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not os.path.isabs(above):
        raise UsageError(f"no cache directory: user {os.geteuid()} has no home; name one with --cache")
    return os.path.join(above, "lazyfs")


def objects_directory(directory: str) -> str:
    """Returns the directory of the cached objects in a mount's cache directory."""
    return os.path.join(directory, "objects")
