"""Paths on which every filesystem is one of this machine: a system call on them ends soon.

A look at any other path needs a child process that can be left behind (`bounded_look`). Two forks cost a
mount 5 ms of processor time, so a path of this kind is looked at without one.
"""

import os
import stat
from collections.abc import Callable, Mapping
from typing import Any

from lazyfs.system.bounded_look import Answer, ask_one

LOCAL = frozenset(("btrfs", "devtmpfs", "ext2", "ext3", "ext4", "f2fs", "tmpfs", "xfs"))
"""Types of filesystems that ask nobody else; /dev/shm lies in a devtmpfs. An overlay is none of them: its
layers may lie anywhere."""
_MAX_LINKS = 40
"""The largest number of links that are followed on one path, as in the kernel."""


def look(path: str, types: Mapping[str, str], question: Callable[[], Any], seconds: float) -> Answer:
    """Asks a question of the filesystems on a path: in this process if all of them are local, otherwise in a
    child process, which stays in the caller's process group and has `seconds` to answer. `types` maps each
    mount point to the type of the topmost filesystem there."""
    if is_local(path, types):
        return Answer(question(), True)
    return ask_one(question, seconds, own_session=False)


def is_local(path: str, types: Mapping[str, str]) -> bool:
    """Returns True if a look-up of an absolute path touches only local filesystems: the links on the way are
    followed, and a mount at the path itself counts. A path that does not exist is followed as far as it
    exists. Touches no other filesystem itself."""
    if types.get("/") not in LOCAL:
        return False
    here, links = "/", 0
    pending = path.split("/")[::-1]
    while pending:
        name = pending.pop()
        if name in ("", "."):
            continue
        step = os.path.dirname(here) if name == ".." else os.path.join(here, name)
        if types.get(step, "tmpfs") not in LOCAL:
            return False
        try:
            is_link = stat.S_ISLNK(os.lstat(step).st_mode)
            target = os.readlink(step) if is_link else ""
        except (OSError, ValueError):
            return True  # the way ends here, with the same error for everybody
        if not is_link:
            here = step
            continue
        links += 1
        if links > _MAX_LINKS:
            return True
        here = "/" if target.startswith("/") else here
        pending += target.split("/")[::-1]
    return True
