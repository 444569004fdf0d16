"""A control group for one start of a program: the groups that the container runtime makes below it, and
leaves behind, can then be removed."""

import os
from contextlib import suppress

TOP = "/sys/fs/cgroup"


def group_below_own(name: str, top: str = TOP) -> str | None:
    """Returns a path for a group `name` below this process's own group, in the hierarchy that systemd's
    programs use; None if there is no such hierarchy. Makes no group."""
    try:
        with open("/proc/self/cgroup") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return None
    paths = {controllers: path for _, controllers, path in lines}
    for directory, controllers in ((os.path.join(top, "systemd"), "name=systemd"), (top, "")):
        own = os.path.join(directory, paths.get(controllers, "/").lstrip("/"))
        if controllers in paths and os.path.exists(os.path.join(own, "cgroup.procs")):
            return os.path.join(own, name)
    return None


def enter_group(path: str) -> None:
    """Puts this process into a group. Raises OSError."""
    with open(os.path.join(path, "cgroup.procs"), "w") as file:
        file.write("0")


def remove_group(path: str) -> None:
    """Removes a group and the groups below it. No process may be left in them."""
    for directory, _, _ in os.walk(path, topdown=False):
        with suppress(OSError):
            os.rmdir(directory)
