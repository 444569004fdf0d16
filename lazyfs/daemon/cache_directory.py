"""The cache directory of a mount that names none."""

import os


def default_cache() -> str:
    """Returns /var/cache/lazyfs for root, lazyfs below XDG_CACHE_HOME or ~/.cache for others."""
    if os.geteuid() == 0:
        return "/var/cache/lazyfs"
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lazyfs")
