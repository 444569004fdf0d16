"""Chooses the path of a start's scratch directory, which holds the runtime's own files."""

import os


def scratch_name() -> str:
    """Returns a new path for a start's scratch directory. The path is short, since podman refuses long
    ones."""
    return f"/tmp/lazyfs-run-{os.urandom(8).hex()}"  # noqa: S108 - made anew with mode 0700, or the start fails
