"""One mount without its event loop: tree, cache, session, control socket. Answers requests whose objects are
at hand.

A mount whose last trusted revision lies on this machine answers before it imports trio, the network's
libraries and other modules that only misses and refreshes need. These imports take three quarters of a start.
"""

import hashlib
import logging
import os
import select
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from lazyfs.core.chain.notation import without_secrets
from lazyfs.core.errors import LazyfsError, UsageError
from lazyfs.daemon import control_socket, runtime_directory
from lazyfs.daemon.cache_watch import CacheWatch
from lazyfs.daemon.known_revision import KnownRepository, show_known
from lazyfs.daemon.log import DaemonLog
from lazyfs.daemon.mount_cache import MountCache
from lazyfs.daemon.mount_lock import MountLock
from lazyfs.daemon.privileges import Privileges
from lazyfs.daemon.session_choice import make_session
from lazyfs.daemon.settings import Settings
from lazyfs.daemon.survival.handover import Handover
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.session import MountOptions, Session
from lazyfs.system import mountpoint
from lazyfs.system.mount_table import Mount
from lazyfs.system.trusted_files import Untrusted, make_private_directory
from lazyfs.vfs.journal import Journal
from lazyfs.vfs.journal_records import HeldNumbers
from lazyfs.vfs.shared_files import SharedFiles
from lazyfs.vfs.shown_numbers import ShortNumbers, as_it_is
from lazyfs.vfs.slots import SlotRecord, SlotTable
from lazyfs.vfs.tree import Tree

if TYPE_CHECKING:
    from lazyfs.fuse.trace import Trace

ALONE = 3.0
"""Seconds for which a mount that answers leaves the interpreter to a program that starts. The other modules
are imported afterwards: the program would wait for most of that import, which takes 0.2 s on a warm cache and
less on an empty one."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that a mount handles: SIGHUP reopens the log; SIGINT and SIGTERM unmount."""

log = logging.getLogger(__name__)


async def _nothing_to_open(name: str) -> None:
    raise LazyfsError(f"repository {name}: the mount is still being made")


class AnsweringMount:
    """The parts of a mount that need no event loop."""

    def __init__(
        self,
        settings: Settings,
        cache: MountCache,
        state_dir: str,
        runtime_dir: str,
        privileges: Privileges,
        lock: MountLock | None,
        daemon_log: DaemonLog,
        handover: Handover,
    ) -> None:
        """`state_dir`: the directory of trusted revisions, below the cache directory. `runtime_dir`: the
        directory of the control socket. `lock`: released once the mount answers. `handover`: holds the mount
        that another process has made, if there is one. Raises UsageError."""
        self.handover = handover
        self.settings = settings
        self.cache = cache
        self.state_dir = state_dir
        self.privileges = privileges
        self.log = daemon_log
        self._lock = lock
        self._runtime_dir = runtime_dir
        self.watch = CacheWatch()
        self.journal, held = _open_journal(state_dir, settings.mountpoint, handover)
        self.trace = _open_trace(settings.trace) if settings.trace else None
        self.open_repository = _nothing_to_open
        """A function that opens a repository which a call needs; set once the event loop runs."""
        slot, shared_file, block = handover.given_out
        numbers = ShortNumbers(record=self.journal.block, last=block) if settings.inode32 else None
        self.filesystem = Filesystem(
            Tree(
                SlotTable(
                    _forgetting(numbers, self.journal.slot) if numbers is not None else self.journal.slot,
                    slot,
                ),
                shown=numbers.shown if numbers is not None else as_it_is,
                shared_files=SharedFiles(self.journal.shared_file, shared_file),
                owner=(settings.uid, settings.gid),
            ),
            self._open,
            patience=settings.patience,
            cache_space=self.watch.space,
            trace=self.trace,
        )
        self.filesystem.tree.restore(held)
        if numbers is not None:
            numbers.restore(held.blocks)
        self.answers_alone = False
        """True if the mount can answer before any server has been asked."""
        self.session: Session | None = None
        self.listening: control_socket.ListeningSocket | None = None
        self.answers = False
        """True once programs can use the mount."""
        self._signals: list[int] = []
        self._needs_loop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        """Becomes readable once the event loop has something to do. Never closed: a late signal may still
        write to it."""

    def show_known(self) -> KnownRepository | None:
        """Shows the mount's root directory if this takes no server: a site's folder of repositories, or the
        only repository at its last trusted revision. Returns that repository; None for a site, or if a server
        has to be asked. Raises UsageError for a source that cannot be connected, or metrics that cannot be
        served."""
        if self.settings.metrics and self.handover.taken is None:
            from lazyfs.daemon.metrics_address import check_free  # few mounts serve metrics

            check_free(self.settings.metrics)
        if self.settings.is_site():
            self.filesystem.tree.show_site(tuple(self.settings.repositories))
            self.answers_alone = True
            return None
        known = show_known(self.settings, self.state_dir, self.cache.readable, self.filesystem)
        self.answers_alone = known is not None
        return known

    def keep_signals(self) -> None:
        """Catches the signals of SIGNALS from now on, and notes them for the event loop (`earlier_signals`).
        Their default action would end the process and leave a dead mount."""
        for number in SIGNALS:
            signal.signal(number, self._note_signal)

    def mount(self) -> None:
        """Mounts, and listens for callers of the control socket. Raises LazyfsError."""
        with self.privileges.raised():
            self.session = _mount(self.filesystem, self.settings, self.handover)
            there = self._own_mount()
            path = os.path.join(self._runtime_dir, runtime_directory.socket_name(there))
            self.listening = self.handover.listening or control_socket.listen(
                path, everybody=os.geteuid() == 0
            )
        self.handover.serve(self.session, there, self.journal.path)
        if self.cache.is_open:
            self.watch.look(self.cache.opened)

    def open_cache(self) -> None:
        """Opens the cache and measures its occupied space; does nothing if the cache is open. If the cache
        cannot be opened, raises UsageError, or goes on without a cache if the mount answers already."""
        if not self.cache.is_open:
            self.cache.open(mount_answers=self.answers)
            self.watch.look(self.cache.opened)

    def answer(self, ready: Callable[[], None]) -> None:
        """From now on, answers requests whose objects are at hand, and calls `ready`. Does nothing if the
        session cannot answer without the event loop. Raises LazyfsError if SIGINT or SIGTERM has come by
        now."""
        assert self.session is not None
        if not self.session.begin(self._wake):
            return
        os.stat(self.settings.mountpoint)
        if stopped := [number for number in self._signals if number != signal.SIGHUP]:
            raise LazyfsError(f"mounting was given up: {signal.Signals(stopped[0]).name}")
        self.say_ready(ready)

    def wait_for_work(self) -> None:
        """Waits until the event loop has something to do, but at most ALONE seconds: a request lacks an
        object, a caller of the control socket or a signal has come, or the mount is gone. Does nothing if the
        mount does not answer yet, or serves metrics."""
        if not self.answers or self.settings.metrics or self.handover.taken is not None:
            return
        assert self.listening is not None
        poll = select.poll()
        poll.register(self._needs_loop, select.POLLIN)
        poll.register(self.listening.plain, select.POLLIN)
        poll.poll(ALONE * 1000)

    def say_ready(self, ready: Callable[[], None]) -> None:
        """Does what is due once programs can use the mount: releases the lock, gives up root, logs that the
        mount is made, and calls `ready`."""
        assert self.session is not None
        self.answers = True
        with self.privileges.raised():
            if self._lock is not None:
                self._lock.release()
        self.privileges.drop()
        log.info(
            "%s %s on %s (%s) after %.3f s of processor time",
            "mounted" if self.handover.taken is None else "took over",
            self.source(), self.settings.mountpoint, self.session.kind, time.process_time(),
        )  # fmt: skip
        ready()

    def earlier_signals(self) -> list[int]:
        """Returns the signals that have come since `keep_signals`, for the event loop to deal with."""
        return self._signals

    def source(self) -> str:
        """Returns the URL or directory that the mount shows, without secrets; "lazyfs" for a site. It is for
        the log."""
        return without_secrets(self.settings.source) or "lazyfs"

    def close(self) -> None:
        """Unmounts, and closes everything."""
        try:
            if self.session is not None:
                with self.privileges.raised():
                    self.session.close()
        finally:
            if self.listening is not None:
                self.listening.close()
            if self.trace:
                self.trace.close()
            self.journal.close()
            self.handover.end()

    async def _open(self, name: str) -> None:
        await self.open_repository(name)

    def _note_signal(self, number: int, _: FrameType | None) -> None:
        self._signals.append(number)
        self._wake()

    def _wake(self) -> None:
        os.eventfd_write(self._needs_loop, 1)

    def _own_mount(self) -> Mount:
        """Returns this process's mount. Raises UsageError if it is gone, or if another mount is at the same
        mount point."""
        path = self.settings.mountpoint
        ours = [mount for mount in mountpoint.mounts_on(path) if mount.fstype != "autofs"]
        if not ours:
            raise UsageError(f"mount point {path}: taken away while it was being mounted")
        if len(ours) > 1:  # the lock holds off this user's mounts only, not another user's
            raise UsageError(f"mount point {path} is busy: {ours[0].source} was mounted there meanwhile")
        return ours[0]


def _open_trace(path: str) -> "Trace":
    from lazyfs.fuse.trace import Trace

    return Trace(path)


def _open_journal(state_dir: str, mount: str, handover: Handover) -> tuple[Journal, HeldNumbers]:
    directory = os.path.join(state_dir, "mounts")
    # Mounts on one path in several mount namespaces may share a cache directory.
    key = f"{os.readlink('/proc/self/ns/mnt')} {mount}"
    path = os.path.join(directory, hashlib.sha256(os.fsencode(key)).hexdigest()[:20])
    try:
        make_private_directory(directory)
        return handover.journal(path)
    except Untrusted as error:
        raise UsageError(f"state {error}") from None
    except OSError as error:
        raise UsageError(f"state {path}: {error.strerror}; give another directory with --cache") from None


def _mount(filesystem: Filesystem, settings: Settings, handover: Handover) -> Session:
    root = os.geteuid() == 0
    options = MountOptions(
        source=without_secrets(settings.source) or "lazyfs",
        suid=settings.suid,
        dev=settings.dev,
        permissions=settings.permissions or ("image" if root else "open"),
        allow_other=root or _is_for_everybody(settings),
    )
    kind = "direct" if settings.inode32 else settings.fuse
    return make_session(kind, filesystem, settings.mountpoint, options, handover.taken, handover.table)


def _is_for_everybody(settings: Settings) -> bool:
    from lazyfs.daemon.mount_visibility import is_for_everybody  # a user's mounts only

    return is_for_everybody(settings)


def _forgetting(
    numbers: ShortNumbers, observer: Callable[[SlotRecord | int], None]
) -> Callable[[SlotRecord | int], None]:
    """Returns an observer of inode slots that passes each record on to `observer`. When a slot is freed, also
    frees the 32-bit inode numbers that programs were shown for its inodes."""

    def observe(record: SlotRecord | int) -> None:
        observer(record)
        if isinstance(record, int):
            numbers.forget_slot(record)

    return observe
