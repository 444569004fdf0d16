"""The default directory of a service's state."""

import os
from collections.abc import Mapping


def default_status_directory(name: str, environment: Mapping[str, str] | None = None) -> str:
    """Returns the directory for the service of a repository: below XDG_STATE_HOME."""
    environment = os.environ if environment is None else environment
    base = environment.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(base, "lazyfs", "sync", name)
