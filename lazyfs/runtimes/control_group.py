"""A control group that limits the memory and the processes of one start.

It is made below the group of this process. So the batch system's limits still hold, and a batch system that
ends the job ends the start too. Root may make such a group; another user may if the process's group was
delegated to this user. In version 2 of control groups, the kernel also demands that the process's group has
the controllers enabled for groups below it, or is the root group.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

_MEMORY, _PROCESSES = "memory", "pids"
_FILES = {
    1: {_MEMORY: "memory.limit_in_bytes", _PROCESSES: "pids.max"},
    2: {_MEMORY: "memory.max", _PROCESSES: "pids.max"},
}
_SWAP = {1: "memory.memsw.limit_in_bytes", 2: "memory.swap.max"}
_KILLS = {1: "memory.oom_control", 2: "memory.events"}


class Place(NamedTuple):
    """This process's own group in the hierarchy of one controller."""

    directory: str
    version: int


class ControlGroup(NamedTuple):
    """The group of one start. It exists from `make` to `remove`."""

    name: str
    places: Mapping[str, Place]
    """Controller -> this process's own group, below which the new group is made."""
    limits: Mapping[str, int]
    """Controller -> limit: bytes for `memory`, a number for `pids`."""

    def make(self) -> None:
        """Makes the group with its limits. If this fails, removes what it has made and raises OSError."""
        try:
            for controller, place in self.places.items():
                directory = os.path.join(place.directory, self.name)
                with suppress(FileExistsError):
                    os.mkdir(directory)
                limit = self.limits[controller]
                _write(os.path.join(directory, _FILES[place.version][controller]), str(limit))
                if controller == _MEMORY:
                    with suppress(OSError):  # a kernel may count no swap
                        swap = os.path.join(directory, _SWAP[place.version])
                        _write(swap, "0" if place.version == 2 else str(limit))
        except OSError:
            self.remove()
            raise

    def enter(self) -> None:
        """Moves this process into the group. Raises OSError."""
        for place in self.places.values():
            _write(os.path.join(place.directory, self.name, "cgroup.procs"), str(os.getpid()))

    def leave(self) -> None:
        """Moves this process back into its own group; its children stay. Raises OSError."""
        for place in self.places.values():
            _write(os.path.join(place.directory, "cgroup.procs"), str(os.getpid()))

    def remove(self) -> None:
        """Removes the group if its processes have ended; otherwise does nothing."""
        for place in self.places.values():
            with suppress(OSError):
                os.rmdir(os.path.join(place.directory, self.name))

    def ran_out_of_memory(self) -> bool:
        """Returns True if the kernel has ended a process of the group for want of memory."""
        place = self.places.get(_MEMORY)
        if place is None:
            return False
        with suppress(OSError), open(os.path.join(place.directory, self.name, _KILLS[place.version])) as file:
            return any(line.startswith("oom_kill ") and line.split()[1] != "0" for line in file)
        return False


def places(wanted: Mapping[str, int]) -> dict[str, Place]:
    """Returns this process's own group for each of the `wanted` controllers (`memory`, `pids`), if a group
    with this controller can be made below this group. Makes such a group as a trial and removes it."""
    found = {}
    for controller, limit in wanted.items():
        place = _own_group(controller)
        if place is None:
            continue
        trial = ControlGroup(f"lazyfs-trial-{os.getpid()}", {controller: place}, {controller: limit})
        with suppress(OSError):
            trial.make()
            trial.remove()
            found[controller] = place
    return found


def _own_group(controller: str) -> Place | None:
    """Returns this process's group in the hierarchy that has the controller; None if no hierarchy has it."""
    mounts = _mounts()
    with open("/proc/self/cgroup") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file]
    for number, names, path in lines:
        if controller in names.split(","):
            top = next((place for place, kind, names in mounts if kind == 1 and controller in names), None)
            return None if top is None else Place(top + path.rstrip("/"), 1)
        if number == "0" and (top := next((place for place, kind, _ in mounts if kind == 2), None)):
            directory = top + path.rstrip("/")
            if _enabled(directory, controller):
                return Place(directory, 2)
    return None


def _enabled(directory: str, controller: str) -> bool:
    """Returns True if groups below `directory`, a group of version 2, have the controller. Enables the
    controller for them if it is disabled and this process may enable it."""
    file = os.path.join(directory, "cgroup.subtree_control")
    with suppress(OSError):
        if controller in _read(file).split():
            return True
        if controller in _read(os.path.join(directory, "cgroup.controllers")).split():
            _write(file, f"+{controller}")  # refused where processes are, but for the root group
            return True
    return False


def _mounts() -> list[tuple[str, int, list[str]]]:
    """Returns (mount point, version, options) of each cgroup hierarchy that is mounted from its root."""
    found = []
    # a path may have a carriage return in it, or bytes that are not UTF-8
    with open("/proc/self/mountinfo", newline="\n", errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            kind = after.split(" ", 1)[0]
            root, point = before.split(" ")[3:5]
            if kind in ("cgroup", "cgroup2") and root == "/":
                options = after.split()[-1].split(",")
                found.append((point, 2 if kind == "cgroup2" else 1, options))
    return found


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
