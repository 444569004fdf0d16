"""One mount while it is served: its parts, the order in which they start, and their end."""

import gc
import hashlib
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping

import msgspec
import trio

from lazyfs.core.chain.notation import without_secrets
from lazyfs.core.errors import UsageError
from lazyfs.core.params import Revision
from lazyfs.daemon import control, runtime_directory
from lazyfs.daemon.cache_watch import CacheWatch
from lazyfs.daemon.certificates import Certificates
from lazyfs.daemon.control_requests import ControlRequests
from lazyfs.daemon.log import INTERVAL, DaemonLog
from lazyfs.daemon.mount_lock import MountLock
from lazyfs.daemon.privileges import Privileges
from lazyfs.daemon.repositories import Repositories
from lazyfs.daemon.session_choice import make_session, prepare
from lazyfs.daemon.setting_origins import Origin
from lazyfs.daemon.settings import Settings
from lazyfs.daemon.status import CounterStatus, MemoryStatus, MountStatus, WaitStatus
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.invalidation import Invalidator
from lazyfs.fuse.session import MountOptions, Session
from lazyfs.fuse.trace import Trace
from lazyfs.system import mountpoint
from lazyfs.system.fuse_conf import user_allow_other
from lazyfs.system.trusted_files import Untrusted, make_private_directory
from lazyfs.vfs.inode_numbers import ROOT
from lazyfs.vfs.journal import Journal
from lazyfs.vfs.revision_switch import Invalidation
from lazyfs.vfs.shared_files import SharedFiles
from lazyfs.vfs.shown_numbers import ShortNumbers, as_it_is
from lazyfs.vfs.slots import SlotRecord, SlotTable
from lazyfs.vfs.tree import Tree
from lazyfs_cache import Cache, NullCache

log = logging.getLogger(__name__)


class ServedMount:
    """A mount from its first repository to its unmount."""

    def __init__(
        self,
        settings: Settings,
        origins: Mapping[str, Origin],
        cache: Cache | NullCache,
        state_dir: str,
        runtime_dir: str,
        privileges: Privileges,
        certificates: Certificates,
        lock: MountLock,
        daemon_log: DaemonLog,
    ) -> None:
        """`origins`: where the settings come from. `state_dir`: the directory of trusted revisions, below the
        cache directory. `runtime_dir`: the directory of the control socket. `lock`: released once the mount
        answers."""
        self._settings = settings
        self._origins = origins
        self._lock = lock
        self._cache = cache
        self._runtime_dir = runtime_dir
        self._privileges = privileges
        self._log = daemon_log
        self._started = time.time()
        self._watch = CacheWatch(cache)
        self._journal = _open_journal(state_dir, settings.mountpoint)
        self._trace = Trace(settings.trace) if settings.trace else None
        self._repositories = Repositories(
            settings, cache, state_dir, certificates, self._show_revision, self._withdraw
        )
        numbers = ShortNumbers() if settings.inode32 else None
        self._filesystem = Filesystem(
            Tree(
                SlotTable(
                    _forgetting(numbers, self._journal.slot) if numbers is not None else self._journal.slot
                ),
                shown=numbers.shown if numbers is not None else as_it_is,
                shared_files=SharedFiles(self._journal.shared_file),
                owner=(settings.uid, settings.gid),
            ),
            self._open_of_site,
            patience=settings.patience,
            cache_space=self._watch.space,
            trace=self._trace,
        )
        self._session: Session | None = None
        self._invalidator: Invalidator | None = None

    async def serve(self, ready: Callable[[], None]) -> None:
        """Opens the repositories, mounts, and answers until the mount is gone or a signal ends it.

        Calls `ready` once programs can use the mount. Raises LazyfsError; nothing is mounted then.
        """
        try:
            await self._open()
            # From here on a signal unmounts; before, it ends the process, which leaves nothing behind.
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
                await self._mount_and_serve(signals, ready)
        finally:
            if self._trace:
                self._trace.close()
            self._repositories.close()
            self._journal.close()

    async def _open(self) -> None:
        settings = self._settings
        async with trio.open_nursery() as nursery:
            if settings.is_site():
                self._filesystem.tree.show_site(tuple(settings.repositories))
            else:
                nursery.start_soon(self._repositories.open, settings.single_source(), self._filesystem)
                await trio.sleep(0)
            # While the network is waited for: imports, and a collection, which takes 30 ms.
            prepare(settings.fuse)
            gc.collect()

    async def _mount_and_serve(self, signals: AsyncIterator[int], ready: Callable[[], None]) -> None:
        with self._privileges.raised():
            session = _mount(self._filesystem, self._settings)
        self._session = session
        self._invalidator = Invalidator(self._filesystem, session)
        end_metrics: Callable[[], None] | None = None
        try:
            with self._privileges.raised():
                listening = control.listen(self._socket_path(), everybody=os.geteuid() == 0)
            self._watch.look()
            if self._settings.metrics:
                from lazyfs.daemon import metrics  # prometheus_client: a tenth of a mount's imports

                end_metrics = metrics.serve(self._settings.metrics, self.status)
            async with trio.open_nursery() as nursery:
                requests = self._requests()
                await nursery.start(control.serve, listening, requests.handlers(), requests.public())
                nursery.start_soon(self._follow_signals, signals, nursery.cancel_scope)
                nursery.start_soon(self._tell_repeats)
                nursery.start_soon(self._repositories.keep_fresh)
                nursery.start_soon(self._watch.run, self._filesystem.catalogs_in_use)
                nursery.start_soon(self._say_ready, session, ready)
                await session.serve()
                log.info("%s was unmounted", self._settings.mountpoint)
                nursery.cancel_scope.cancel()
        finally:
            with self._privileges.raised():
                session.unmount()
            if end_metrics:
                end_metrics()

    def _socket_path(self) -> str:
        """Returns the socket's path, named by the mount's device. Raises UsageError if the mount is gone, or
        if another one is at the same mount point."""
        path = self._settings.mountpoint
        there = [mount for mount in mountpoint.mounts() if mount.mountpoint == path]
        ours = [mount for mount in there if mount.fstype != "autofs"]
        if not ours:
            raise UsageError(f"mount point {path}: taken away while it was being mounted")
        if len(ours) > 1:  # the lock holds off this user's mounts only, not another user's
            raise UsageError(f"mount point {path} is busy: {ours[0].source} was mounted there meanwhile")
        return os.path.join(self._runtime_dir, runtime_directory.socket_name(ours[0]))

    def _requests(self) -> ControlRequests:
        return ControlRequests(self.status, self._settings, self._origins, self._repositories, self._cache)

    async def _say_ready(self, session: Session, ready: Callable[[], None]) -> None:
        # A stat in a thread: this process itself has to answer the kernel's request.
        await trio.to_thread.run_sync(os.stat, self._settings.mountpoint)
        with self._privileges.raised():
            self._lock.release()
        self._privileges.drop()
        # The modules alone are 46,000 objects: a full collection would delay every answer by 30 ms.
        gc.freeze()
        log.info("mounted %s on %s (%s)", self._source(), self._settings.mountpoint, session.kind)
        ready()

    async def _follow_signals(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        async for number in signals:
            if number == signal.SIGHUP:  # logrotate has renamed the log
                self._log.reopen()
                continue
            log.info("unmounting: %s", signal.Signals(number).name)
            scope.cancel()

    async def _tell_repeats(self) -> None:
        while True:
            await trio.sleep(INTERVAL)
            self._log.tell_repeats()

    async def _open_of_site(self, name: str) -> None:
        await self._repositories.open(self._settings.sources()[name], self._filesystem, name)
        assert self._invalidator is not None
        await self._invalidator.catch_up(name)
        await self._invalidator.drop([Invalidation(ROOT, None)])

    async def _show_revision(self, name: str, revision: Revision) -> None:
        assert self._invalidator is not None
        await self._invalidator.switch(name, revision.root, revision.number)

    async def _withdraw(self, name: str) -> None:
        assert self._invalidator is not None
        self._filesystem.withdraw(name)
        await self._invalidator.drop([Invalidation(ROOT, os.fsencode(name))])

    def _source(self) -> str:
        return without_secrets(self._settings.source) or "lazyfs"

    def status(self) -> MountStatus:
        """Returns the complete status; called from the metrics' threads too."""
        tree = self._filesystem.tree
        with self._filesystem.lock:
            memory = MemoryStatus(len(tree.slots), len(tree.parsed), tree.parsed.bytes)
        return MountStatus(
            mountpoint=self._settings.mountpoint,
            source=self._source(),
            session=self._session.kind if self._session else "",
            pid=os.getpid(),
            uptime=round(time.time() - self._started, 1),
            repositories=self._repositories.status(),
            counters=msgspec.convert(self._filesystem.counters.snapshot(), CounterStatus),
            waiting=_waiting(list(self._filesystem.waiting.values())),
            memory=memory,
            journal=self._journal.broken,
            cache=self._cache.stats(),
        )


def _waiting(calls: list[tuple[str, int, float]]) -> dict[str, WaitStatus]:
    now = time.monotonic()
    found: dict[str, WaitStatus] = {}
    for name, objects, since in calls:
        before = found.get(name, WaitStatus(0, 0, 0.0))
        longest = max(before.longest, round(now - since, 1))
        found[name] = WaitStatus(before.calls + 1, before.objects + objects, longest)
    return found


def _open_journal(state_dir: str, mount: str) -> Journal:
    directory = os.path.join(state_dir, "mounts")
    # Mounts on one path in several mount namespaces may share a cache directory.
    key = f"{os.readlink('/proc/self/ns/mnt')} {mount}"
    path = os.path.join(directory, hashlib.sha256(os.fsencode(key)).hexdigest()[:20])
    try:
        make_private_directory(directory)
        return Journal(path)
    except Untrusted as error:
        raise UsageError(f"state {error}") from None
    except OSError as error:
        raise UsageError(f"state {path}: {error.strerror}; give another directory with --cache") from None


def _mount(filesystem: Filesystem, settings: Settings) -> Session:
    root = os.geteuid() == 0
    options = MountOptions(
        source=without_secrets(settings.source) or "lazyfs",
        suid=settings.suid,
        dev=settings.dev,
        permissions=settings.permissions or ("image" if root else "open"),
        allow_other=root or user_allow_other(),
    )
    kind = "direct" if settings.inode32 else settings.fuse
    return make_session(kind, filesystem, settings.mountpoint, options)


def _forgetting(
    numbers: ShortNumbers, observer: Callable[[SlotRecord | int], None]
) -> Callable[[SlotRecord | int], None]:
    """Returns an observer of slots that frees the number of each freed slot."""

    def observe(record: SlotRecord | int) -> None:
        observer(record)
        if isinstance(record, int):
            numbers.forget_slot(record)

    return observe
