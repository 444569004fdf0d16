"""The session on pyfuse3 and trio: mounts, serves until the unmount, and notifies the kernel."""

import errno
import os
from collections.abc import Callable

import pyfuse3
import trio

from lazyfs.core.errors import UsageError
from lazyfs.fuse import device
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.pyfuse3_operations import Operations
from lazyfs.fuse.session import MountOptions
from lazyfs.system import mountpoint as points

TASKS = 1000
"""The largest number of requests under way at one time: each may wait for the network, and none must hold up
another."""
LOOK = 1.0
"""Seconds between checks that the mount still exists."""


class Pyfuse3Session:
    """The session that serves a mount with pyfuse3. Implements `Session`. One per process: pyfuse3 keeps its
    state in the module."""

    kind = "pyfuse3"

    def __init__(self, filesystem: Filesystem, mountpoint: str, options: MountOptions) -> None:
        """Mounts; raises UsageError if the mount is refused."""
        wanted = {"fsname=" + options.source.replace(",", "\\,"), "subtype=lazyfs", "ro"}
        if options.allow_other:
            wanted.add("allow_other")
        if options.permissions == "image":
            wanted.add("default_permissions")
        if options.suid:
            wanted.add("suid")
        if options.dev:
            wanted.add("dev")
        try:
            pyfuse3.init(Operations(filesystem), mountpoint, wanted)
        except RuntimeError as error:
            raise UsageError(
                f"cannot mount on {mountpoint}: {error}; check that fusermount3 works there, and that "
                f"/etc/fuse.conf has user_allow_other"
            ) from None
        self._filesystem = filesystem
        self._open = True
        mount = points.find(points.absolute(mountpoint))
        if mount:
            device.raise_read_ahead(mount)

    def begin(self, _needs_loop: Callable[[], object]) -> bool:
        return False

    def held(self) -> None:
        """Returns None: libfuse cannot serve a mount that another process has made."""

    def serve_kept(self) -> None:
        """Does nothing: nobody else reads from this session's device."""

    async def serve(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end_with_the_mount, nursery.cancel_scope)
                await pyfuse3.main(max_tasks=TASKS)
                nursery.cancel_scope.cancel()
        finally:
            self.unmount()

    async def _end_with_the_mount(self, scope: trio.CancelScope) -> None:
        # pyfuse3 waits for its tasks, and one that holds a read through an outage may never end.
        fd = _descriptor()
        while device.is_connected(fd):
            await trio.sleep(LOOK)
        await trio.sleep(LOOK)
        scope.cancel()

    def unmount(self) -> None:
        if self._open:
            self._open = False
            pyfuse3.close(unmount=True)

    def close(self) -> None:
        self.unmount()

    def bound_answers(self, limit: int) -> None:
        """Does nothing: no answer is kept outside the kernel."""

    def forget_answers(self, folders: set[int]) -> None:
        """Does nothing: no answer is kept outside the kernel."""

    def forget_inode(self, number: int) -> None:
        _ignore_unknown(lambda: pyfuse3.invalidate_inode(number))
        self._filesystem.counters.notified += 1

    def forget_entry(self, parent: int, name: bytes) -> None:
        _ignore_unknown(lambda: pyfuse3.invalidate_entry(parent, name))
        self._filesystem.counters.notified += 1


def _descriptor() -> int:
    """Returns the descriptor of /dev/fuse, which pyfuse3 does not publish."""
    with os.scandir("/proc/self/fd") as entries:
        return next(int(entry.name) for entry in entries if os.readlink(entry.path) == "/dev/fuse")


def _ignore_unknown(notify: Callable[[], None]) -> None:
    try:
        notify()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):  # the kernel did not know it
            raise
