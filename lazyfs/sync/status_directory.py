"""The default directory of a service's state."""

import os
from collections.abc import Mapping


def default_status_directory(name: str, environment: Mapping[str, str] | None = None) -> str:
    """Returns the default status directory of a repository's service, below XDG_STATE_HOME. `name`: the
    repository's name."""
    environment = os.environ if environment is None else environment
    base = environment.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(base, "lazyfs", "sync", name)
