"""Waiting for a daemon to end, so that what comes next finds its cache and socket free."""

import os
import select
from collections.abc import Callable

from lazyfs.core.errors import UsageError
from lazyfs.daemon import control

SECONDS = 20.0
"""A daemon that writes its cache's index ends within a second; nobody waits longer than this."""


def wait_for_end(mountpoint: str, unmount: Callable[[], None], *, patiently: bool = True) -> None:
    """Unmounts, then returns when the daemon has ended, if this user may know which process it is.

    Not `patiently`: at once, for what is still in use is served on until it is closed.
    """
    try:
        pid = int(control.ask(mountpoint, {"do": "pid"}, timeout=5)["pid"])
        process = os.pidfd_open(pid)
    except (UsageError, OSError):
        unmount()  # a dead daemon's mount, or another user's
        control.remove_dead(mountpoint)
        return
    try:
        unmount()
        select.select([process], [], [], SECONDS if patiently else 0)
        control.remove_dead(mountpoint)
    finally:
        os.close(process)
