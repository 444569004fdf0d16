"""A killed daemon that cannot end: it tells the kernel to drop a name.

Such a thread waits, unkillable, until every lookup in that folder is answered; but the process that was to
answer is dead. The kernel reports no death while a thread is left, and the mount would hang for ever.
"""

import os

_NOTIFICATIONS = b"fuse_reverse_inval_"
"""What the names of the kernel's functions that carry notifications out begin with, since Linux 2.6.31."""


def cannot_end(pid: int) -> bool:
    """Returns True if a process was killed and every thread that is left of it waits in a notification.

    Then no thread reads the kernel's requests any more. Returns False where the kernel does not show in which
    function a thread waits.
    """
    try:
        if _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[0] != b"Z":
            return False
        others = [task for task in os.listdir(f"/proc/{pid}/task") if task != str(pid)]
        waits = [_read(f"/proc/{pid}/task/{task}/wchan") for task in others]
    except OSError:  # it ends at this moment
        return False
    return bool(waits) and all(name.startswith(_NOTIFICATIONS) for name in waits)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
