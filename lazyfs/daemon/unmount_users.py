"""Names the programs that keep a mount busy, and ends them for `lazyfs umount --kill`."""

import os
import select
import signal
import time
from contextlib import suppress

from lazyfs.core.errors import UsageError
from lazyfs.system.mount_holders import Holder, Holders, holders, still_holds
from lazyfs.system.mount_table import Mount
from lazyfs.system.process_tree import ancestors

SHOWN = 5
"""The largest number of programs that an error names."""
TERM_SECONDS = 5.0
"""Seconds that programs have between SIGTERM and SIGKILL."""
KILL_SECONDS = 5.0
"""Seconds that killed programs may take to end."""


def in_use(mount: Mount, found: Holders) -> str:
    """Returns the error message for a mount that programs use."""
    texts = [_text(one) for one in found.found[:SHOWN]]
    if len(found.found) > SHOWN:
        texts.append(f"{len(found.found) - SHOWN} more")
    if not found.complete:
        texts.append("perhaps programs that this user may not look into")
    by = f" by {', '.join(texts)}" if texts else ""
    return f"{mount.mountpoint} is in use{by}; end them, or add --kill, or --lazy, which lets them go on"


def end_users(mount: Mount) -> None:
    """Ends the programs that use a mount: SIGTERM, and SIGKILL for those that stay. Raises UsageError if one
    of them is this command's own shell, or if one may not be ended."""
    found = [one for one in holders(mount).found if one.pid]
    own = ancestors()
    for one in found:
        if one.pid in own:
            raise UsageError(f"{mount.mountpoint}: your own shell {_text(one)}; cd / first")
    processes: dict[int, Holder] = {}
    try:
        for one in found:
            with suppress(ProcessLookupError):
                processes[os.pidfd_open(one.pid)] = one
        # Checked again after the descriptor was opened: the number may have passed to another process before.
        using = [process for process, one in processes.items() if still_holds(mount, one.pid)]
        for process in using:
            _send(process, signal.SIGTERM, processes[process])
        left = _wait(using, TERM_SECONDS)
        for process in left:
            _send(process, signal.SIGKILL, processes[process])
        _wait(left, KILL_SECONDS)
    finally:
        for process in processes:
            os.close(process)


def _send(process: int, number: signal.Signals, one: Holder) -> None:
    try:
        signal.pidfd_send_signal(process, number)
    except ProcessLookupError:
        return
    except PermissionError:
        raise UsageError(f"{_text(one)}, and is another user's: run as root") from None


def _wait(processes: list[int], seconds: float) -> list[int]:
    """Waits, for at most `seconds`, until the processes have ended. Returns those that have not."""
    end = time.monotonic() + seconds
    left = list(processes)
    while left and (rest := end - time.monotonic()) > 0:
        ended, _, _ = select.select(left, [], [], rest)
        left = [process for process in left if process not in ended]
    return left


def _text(one: Holder) -> str:
    return f"pid {one.pid} ({one.command}) {one.use}" if one.pid else f"{one.command}, which {one.use}"
