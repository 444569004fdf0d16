"""One mount while it is served: its event loop, the order in which its parts start, and their end."""

import gc
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping

import msgspec
import trio

from lazyfs.client.trust.refresher import RETRY
from lazyfs.core.byte_size import parse_size
from lazyfs.core.params import Revision
from lazyfs.daemon import control
from lazyfs.daemon.answering_mount import ALONE, SIGNALS, AnsweringMount
from lazyfs.daemon.certificates import Certificates
from lazyfs.daemon.control_requests import ControlRequests
from lazyfs.daemon.image_jobs import ImageJobs
from lazyfs.daemon.known_revision import KnownRepository
from lazyfs.daemon.late_imports import SOON, load
from lazyfs.daemon.log import INTERVAL
from lazyfs.daemon.memory_watch import MemoryWatch
from lazyfs.daemon.repositories import Repositories
from lazyfs.daemon.session_choice import prepare
from lazyfs.daemon.setting_origins import Origin
from lazyfs.daemon.status import CounterStatus, MemoryStatus, MountStatus, WaitStatus
from lazyfs.daemon.succession import Succession
from lazyfs.fuse.invalidation import Invalidator
from lazyfs.fuse.session import Session
from lazyfs.vfs.inode_numbers import ROOT
from lazyfs.vfs.revision_switch import Invalidation

log = logging.getLogger(__name__)


class ServedMount:
    """A mount while it is served, from the opening of its first repository to its unmount."""

    def __init__(
        self,
        mount: AnsweringMount,
        certificates: Certificates,
        known: KnownRepository | None,
        origins: Mapping[str, Origin],
    ) -> None:
        """`known`: the only repository of the mount, if it is shown already. `origins`: the origin of each
        setting."""
        self._origins = origins
        self._mount = mount
        self._known = known
        self._report_target = certificates.report_target
        self._settings = mount.settings
        self._filesystem = mount.filesystem
        self._memory = MemoryWatch(parse_size(mount.settings.memory_limit, "memory_limit"), mount.filesystem)
        self._started = time.time()
        self._repositories = Repositories(
            mount.settings,
            mount.cache.opened,
            mount.state_dir,
            certificates,
            mount.filesystem,
            self._show_revision,
            self._withdraw,
        )
        mount.open_repository = self._open_repository
        self._invalidator: Invalidator | None = None
        self._nursery: trio.Nursery | None = None
        """The nursery of the mount's tasks; None until it serves."""

    async def serve(self, ready: Callable[[], None]) -> None:
        """Opens the repositories, mounts unless that is done, and answers until the mount is gone or a signal
        ends it.

        Calls `ready` once programs can use the mount, unless it answers already. Raises LazyfsError.
        """
        try:
            if self._mount.session is None:
                await self._open()
            # From here on a signal unmounts; before, it ends the process, which leaves nothing behind.
            with trio.open_signal_receiver(*SIGNALS) as signals:
                if self._mount.session is None:
                    self._mount.mount()
                assert self._mount.session is not None
                await self._serve(self._mount.session, signals, ready)
        finally:
            self._repositories.close()

    async def _open(self) -> None:
        """Opens the repository without which the mount cannot answer, if there is one; meanwhile imports the
        session's modules."""
        settings = self._settings
        async with trio.open_nursery() as nursery:
            if not settings.is_site() and self._known is None:
                nursery.start_soon(self._repositories.open, settings.single_source())
                await trio.sleep(0)
            prepare(settings.fuse)  # imports, while the network is waited for

    async def _serve(self, session: Session, signals: AsyncIterator[int], ready: Callable[[], None]) -> None:
        self._invalidator = Invalidator(self._filesystem, session)
        if self._known is not None:
            await self._repositories.open(self._settings.single_source(), known=self._known)
        assert self._mount.listening is not None
        end_metrics: Callable[[], None] | None = None
        try:
            if self._settings.metrics:
                from lazyfs.daemon import metrics  # prometheus_client: a tenth of a mount's imports

                end_metrics = metrics.serve(self._settings.metrics, self.status)
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                requests = self._requests()
                jobs = ImageJobs(self._filesystem, self._repositories, site=self._settings.is_site())
                succession = Succession(self._mount, nursery)
                handlers = requests.handlers() | jobs.handlers() | succession.handlers()
                await nursery.start(control.serve, self._mount.listening, handlers, requests.public())
                nursery.start_soon(self._follow_signals, signals, nursery.cancel_scope)
                nursery.start_soon(self._tell_repeats)
                nursery.start_soon(succession.follow_keeper)
                nursery.start_soon(succession.keep_journal)
                nursery.start_soon(self._repositories.keep_fresh)
                if self._report_target is not None and self._repositories.starts is not None:
                    from lazyfs.daemon.reporting.sender import ReportSender  # few mounts report

                    sender = ReportSender(self._report_target, self._repositories.starts)
                    nursery.start_soon(sender.run)
                cache, in_use = self._mount.cache.opened, self._filesystem.catalogs_in_use
                nursery.start_soon(self._mount.watch.run, cache, in_use)
                nursery.start_soon(self._memory.run, session)
                nursery.start_soon(self._say_ready, ready)
                if self._mount.handover.taken is not None:
                    for name in self._repositories.opened:
                        nursery.start_soon(self._catch_up, name, trio.Event())
                await session.serve()
                log.info("%s was unmounted", self._settings.mountpoint)
                nursery.cancel_scope.cancel()
        finally:
            if end_metrics:
                end_metrics()

    def _requests(self) -> ControlRequests:
        return ControlRequests(
            self.status, self._settings, self._origins, self._repositories, self._mount.cache.opened
        )

    async def _say_ready(self, ready: Callable[[], None]) -> None:
        if not self._mount.answers:
            # A stat in a thread: this process itself has to answer the kernel's request.
            await trio.to_thread.run_sync(os.stat, self._settings.mountpoint)
            self._mount.say_ready(ready)
        await trio.sleep(ALONE)
        await trio.to_thread.run_sync(load, SOON)
        await trio.to_thread.run_sync(self._repositories.load_modules)
        # The modules alone are 46,000 objects: a full collection would delay every answer by 30 ms. So they
        # are taken out of all collections, which begin now.
        gc.freeze()
        gc.enable()
        log.info("all modules are loaded after %.3f s of processor time", time.process_time())

    async def _follow_signals(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        for number in self._mount.earlier_signals():
            self._follow_signal(number, scope)
        async for number in signals:
            self._follow_signal(number, scope)

    def _follow_signal(self, number: int, scope: trio.CancelScope) -> None:
        if number == signal.SIGHUP:  # logrotate has renamed the log
            self._mount.log.reopen()
            return
        log.info("unmounting: %s", signal.Signals(number).name)
        scope.cancel()

    async def _tell_repeats(self) -> None:
        while True:
            await trio.sleep(INTERVAL)
            self._mount.log.tell_repeats()

    async def _open_repository(self, name: str) -> None:
        """Opens a repository of a site. If it is open, waits for the first look for a newer revision."""
        if name in self._repositories.opened:
            await self._repositories.settle(name)
            return
        await self._repositories.open(self._settings.sources()[name], name)
        assert self._invalidator is not None
        assert self._nursery is not None
        caught_up = trio.Event()
        self._nursery.start_soon(self._catch_up, name, caught_up)
        await caught_up.wait()
        await self._invalidator.drop([Invalidation(ROOT, None)])

    async def _catch_up(self, name: str, tried: trio.Event) -> None:
        """Switches the folders of a repository that the kernel knows at an earlier revision; if this fails,
        tries again until the repository is withdrawn. Sets `tried` once the folders are switched or could not
        be, before the kernel is told: a lookup in one of them may wait for `tried`."""
        assert self._invalidator is not None
        while name in self._repositories.opened:
            try:
                await self._invalidator.catch_up(name, tried.set)
                break
            except OSError as error:
                log.warning(
                    "%s: folders in use stay at an earlier revision for now: %s", name, error.strerror
                )
            tried.set()
            await trio.sleep(RETRY)
        tried.set()

    async def _show_revision(self, name: str, revision: Revision) -> None:
        assert self._invalidator is not None
        looked = self._repositories.opened[name].refresher.first_look.set
        await self._invalidator.switch(name, revision.root, revision.number, looked)

    async def _withdraw(self, name: str) -> None:
        assert self._invalidator is not None
        self._filesystem.withdraw(name)
        await self._invalidator.drop([Invalidation(ROOT, os.fsencode(name))])

    def status(self) -> MountStatus:
        """Returns the complete status; called from the metrics' threads too."""
        tree = self._filesystem.tree
        with self._filesystem.lock:
            memory = MemoryStatus(
                len(tree.slots), len(tree.parsed), tree.parsed.bytes,
                self._memory.limit, self._memory.given_back,
            )  # fmt: skip
        return MountStatus(
            mountpoint=self._settings.mountpoint,
            source=self._mount.source(),
            session=self._mount.session.kind if self._mount.session else "",
            pid=os.getpid(),
            successions=self._mount.handover.successions,
            uptime=round(time.time() - self._started, 1),
            repositories=self._repositories.status(),
            counters=msgspec.convert(self._filesystem.counters.snapshot(), CounterStatus),
            waiting=_waiting(list(self._filesystem.waiting.values())),
            memory=memory,
            journal=self._mount.journal.broken,
            cache=self._mount.cache.opened.stats(),
        )


def _waiting(calls: list[tuple[str, int, float]]) -> dict[str, WaitStatus]:
    now = time.monotonic()
    found: dict[str, WaitStatus] = {}
    for name, objects, since in calls:
        before = found.get(name, WaitStatus(0, 0, 0.0))
        longest = max(before.longest, round(now - since, 1))
        found[name] = WaitStatus(before.calls + 1, before.objects + objects, longest)
    return found
