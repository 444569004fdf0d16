"""The default directory of a service's state."""

import os


def default_status_directory(name: str) -> str:
    """Returns the default status directory of a repository's service, below XDG_STATE_HOME. `name`: the
    repository's name."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(base, "lazyfs", "sync", name)
