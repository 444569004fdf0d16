"""Waiting for a daemon to end, so that what comes next finds its cache and socket free."""

import os
import select
from collections.abc import Callable

from lazyfs.core.errors import UsageError
from lazyfs.fuse import control

SECONDS = 20.0
"""A daemon that still serves open files of a lazy unmount lives on; nobody waits longer than this."""


def wait_for_end(mountpoint: str, unmount: Callable[[], None]) -> None:
    """Unmounts, then returns when the daemon has ended, if this user may know which process it is."""
    try:
        pid = int(control.ask(mountpoint, {"do": "pid"}, timeout=5)["pid"])
        process = os.pidfd_open(pid)
    except (UsageError, OSError):
        unmount()  # a dead daemon's mount, or another user's
        return
    try:
        unmount()
        select.select([process], [], [], SECONDS)
    finally:
        os.close(process)
