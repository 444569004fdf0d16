"""A control group of one test, which limits the memory of the processes in it."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lazyfs.system.control_groups import remove_group
from tests.support.until import until


class ControlGroup:
    """A control group below the one of this process, in version 1 or 2 of control groups."""

    def __init__(self, directory: Path, version: int) -> None:
        self.directory = directory
        self._version = version

    def enter(self) -> None:
        """Moves the calling process into the group: for `preexec_fn`."""
        (self.directory / "cgroup.procs").write_text(str(os.getpid()))

    def limit(self, size: int) -> None:
        """Sets the group's memory limit in bytes. Allows no swap, which would only delay the kill."""
        if self._version == 1:
            (self.directory / "memory.limit_in_bytes").write_text(str(size))
        else:
            (self.directory / "memory.max").write_text(str(size))
            (self.directory / "memory.swap.max").write_text("0")

    def killed(self) -> int:
        """Returns how many processes the kernel has killed because the group was out of memory."""
        file = self.directory / ("memory.oom_control" if self._version == 1 else "memory.events")
        facts = dict(line.split() for line in file.read_text().splitlines())
        return int(facts["oom_kill"])


@contextmanager
def control_group() -> Iterator[ControlGroup]:
    """Makes a group for the block. Skips the test if this machine allows no new group."""
    version, own = _own_group()
    directory = own / f"lazyfs-test-{os.getpid()}"
    try:
        directory.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        name = "memory.limit_in_bytes" if version == 1 else "memory.max"
        if not (directory / name).exists():
            pytest.skip("no memory controller for control groups here")
        yield ControlGroup(directory, version)
        until(lambda: not (directory / "cgroup.procs").read_text(), 60)
    finally:
        directory.rmdir()


def _own_group() -> tuple[int, Path]:
    found = (2, Path("/sys/fs/cgroup"))
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return 1, Path("/sys/fs/cgroup/memory") / path.lstrip("/")
        if not controllers:
            found = (2, Path("/sys/fs/cgroup") / path.lstrip("/"))
    return found


@contextmanager
def groups_of_starts() -> Iterator[list[Path]]:
    """Makes a control group in each hierarchy that a runtime may make groups in, for processes that the block
    starts; yields the groups. Others' runtimes make theirs elsewhere."""
    groups = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "cpuset":  # takes no process before it has processors
            continue
        names = [controllers.removeprefix("name=")] if controllers else ["unified", "."]
        for name in names:
            own = Path("/sys/fs/cgroup", name, path.lstrip("/"))
            if (own / "cgroup.procs").exists():
                groups.append(Path(tempfile.mkdtemp(prefix="lazyfs-starts-", dir=own)))
                break
    try:
        yield groups
    finally:
        for group in groups:
            remove_group(str(group))
