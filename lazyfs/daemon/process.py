"""The process behind a mount: cache, repositories, session, control socket, and their end."""

import gc
import hashlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec
import trio

from lazyfs.core.errors import LazyfsError, UsageError
from lazyfs.core.params import Revision
from lazyfs.daemon import control, runtime_directory
from lazyfs.daemon.catalog_pins import CatalogPins
from lazyfs.daemon.certificates import Certificates
from lazyfs.daemon.privileges import Privileges
from lazyfs.daemon.repositories import Repositories
from lazyfs.daemon.session_choice import make_session, prepare
from lazyfs.daemon.settings import Place, Settings, default_cache, size
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.fuse.invalidation import Invalidator
from lazyfs.fuse.session import MountOptions, Session
from lazyfs.fuse.trace import Trace
from lazyfs.system import mountpoint
from lazyfs.vfs.inode_numbers import ROOT
from lazyfs.vfs.journal import Journal
from lazyfs.vfs.revision_switch import Invalidation
from lazyfs.vfs.shared_files import SharedFiles
from lazyfs.vfs.slots import SlotTable
from lazyfs.vfs.tree import Tree
from lazyfs_cache import Cache, CacheError, NullCache, open_cache

CACHE_LOOK = 5.0
"""Seconds between looks at how full the cache is, for `df`, and at which catalogs are in use."""

log = logging.getLogger(__name__)


def run(settings: Settings, ready: Callable[[], None]) -> None:
    """Mounts and serves until unmounted; calls `ready` once programs can use the mount.

    Raises LazyfsError before that if it cannot be mounted; the mount point is then as it was.
    """
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    sys.setswitchinterval(50e-6)  # a busy fetching thread would otherwise hold an answer up by 5 ms
    mountpoint.check_device()
    if mountpoint.prepare(settings.mountpoint):
        log.info("%s: took away a mount whose daemon had died", settings.mountpoint)
    privileges = Privileges(settings.user)
    certificates = Certificates(settings)
    directory = settings.cache or default_cache()
    privileges.make_own(directory)
    privileges.lower()
    cache = _open_cache(directory, settings)
    try:
        daemon = Daemon(settings, cache, os.path.join(directory, "state"), privileges, certificates)
        trio.run(daemon.serve, ready)
    except BaseExceptionGroup as group:
        raise _cause(group) from None
    finally:
        cache.close()


def _cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that a user can do something about, if there is one, or the first."""
    leaves: list[BaseException] = []
    groups = [group]
    for one in groups:
        for inner in one.exceptions:
            if isinstance(inner, BaseExceptionGroup):
                groups.append(inner)
            else:
                leaves.append(inner)
    return next((leaf for leaf in leaves if isinstance(leaf, LazyfsError)), leaves[0])


def _open_cache(directory: str, settings: Settings) -> Cache | NullCache:
    limit = size(settings.cache_limit, "cache_limit")
    if limit == 0:
        return NullCache()
    try:
        return open_cache(
            os.path.join(directory, "objects"),
            limit,
            keep_free=size(settings.cache_keep_free, "cache_keep_free"),
            policy=settings.cache_policy,
        )
    except CacheError as error:
        raise UsageError(str(error)) from None


def _journal(state_dir: str, mount: str) -> Journal:
    directory = os.path.join(state_dir, "mounts")
    path = os.path.join(directory, hashlib.sha256(os.fsencode(mount)).hexdigest()[:20])
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        return Journal(path)
    except OSError as error:
        raise UsageError(f"state {path}: {error.strerror}; give another directory with --cache") from None


class Daemon:
    """One mount's parts while it lives."""

    def __init__(
        self,
        settings: Settings,
        cache: Cache | NullCache,
        state_dir: str,
        privileges: Privileges,
        certificates: Certificates,
    ) -> None:
        self._settings = settings
        self._cache = cache
        self._privileges = privileges
        self._started = time.time()
        self._repositories = Repositories(
            settings, cache, state_dir, certificates, self._advance, self._withdraw
        )
        self._journal = _journal(state_dir, settings.mountpoint)
        self._space: tuple[int, int] | None = None
        self._trace = Trace(settings.trace) if settings.trace else None
        self._filesystem = Filesystem(
            Tree(
                SlotTable(self._journal.slot),
                shared_files=SharedFiles(self._journal.shared_file),
                owner=(settings.uid, settings.gid),
            ),
            self._open_of_site,
            patience=settings.patience,
            cache_space=lambda: self._space,
            trace=self._trace,
        )
        self._session: Session | None = None
        self._invalidator: Invalidator | None = None
        self._ends: list[Callable[[], None]] = [self._trace.close] if self._trace else []

    async def serve(self, ready: Callable[[], None]) -> None:
        """Runs until the mount is gone or a signal says so."""
        settings = self._settings
        try:
            async with trio.open_nursery() as nursery:
                if settings.site():
                    self._filesystem.tree.show_site(tuple(settings.repositories))
                else:
                    place = Place(url=settings.source, trust=settings.trust, proxy=settings.proxy)
                    nursery.start_soon(self._repositories.open, place, self._filesystem)
                    await trio.sleep(0)
                # While the network is waited for: imports, and a collection, which takes 30 ms.
                prepare(settings.fuse)
                gc.collect()
            with self._privileges.raised():
                line = control.listen(runtime_directory.socket_path(settings.mountpoint))
                self._session = _mount(self._filesystem, settings)
            self._invalidator = Invalidator(self._filesystem, self._session)
            self._look_at_cache()
            try:
                self._observe()
                async with trio.open_nursery() as nursery:
                    await nursery.start(control.serve, line, self._handlers())
                    nursery.start_soon(self._stop_on_signal, nursery.cancel_scope)
                    nursery.start_soon(self._repositories.keep_fresh)
                    nursery.start_soon(self._watch_cache)
                    nursery.start_soon(self._say_ready, ready)
                    await self._session.serve()
                    log.info("%s was unmounted", settings.mountpoint)
                    nursery.cancel_scope.cancel()
            finally:
                with self._privileges.raised():
                    self._session.unmount()
        finally:
            for end in reversed(self._ends):
                end()
            self._repositories.close()
            self._journal.close()

    def _observe(self) -> None:
        if self._settings.metrics:
            from lazyfs.daemon import metrics  # prometheus_client: a tenth of a mount's imports

            self._ends.append(metrics.serve(self._settings.metrics, self._describe))

    async def _say_ready(self, ready: Callable[[], None]) -> None:
        # A stat in a thread: the kernel's answer comes from this very process.
        await trio.to_thread.run_sync(os.stat, self._settings.mountpoint)
        self._privileges.drop()
        # 46,000 objects of modules alone: a full collection would hold every answer up for 30 ms.
        gc.freeze()
        log.info("mounted %s on %s (%s)", self._source(), self._settings.mountpoint, self._session_kind())
        ready()

    async def _stop_on_signal(self, scope: trio.CancelScope) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async for number in signals:
                log.info("unmounting: %s", signal.Signals(number).name)
                scope.cancel()

    def _look_at_cache(self) -> None:
        stats = self._cache.stats()
        self._space = (stats.limit, stats.charged) if stats.limit else None

    async def _watch_cache(self) -> None:
        # statfs must not wait for the cache's lock: it shows what was so a moment ago.
        pins = CatalogPins(self._cache)
        while True:
            await trio.sleep(CACHE_LOOK)
            try:
                await trio.to_thread.run_sync(pins.follow, self._filesystem.catalogs_in_use())
                await trio.to_thread.run_sync(self._look_at_cache)
            except Exception:  # this look fails, and no mount for it
                log.exception("looking at the cache")

    async def _refresh_all(self) -> dict[str, str]:
        said = {}
        for name in list(self._repositories.opened):
            try:
                changed = await self._repositories.refresh(name)
                said[name] = "new revision" if changed else "no news"
            except (LazyfsError, OSError, KeyError) as error:  # KeyError: withdrawn meanwhile
                said[name] = f"failed: {error}"
                log.warning("%s: no newer revision: %s", name, error)
        return said

    async def _open_of_site(self, name: str) -> None:
        await self._repositories.open(self._settings.repositories[name], self._filesystem, name)
        assert self._invalidator is not None
        await self._invalidator.catch_up(name)
        await self._invalidator.drop([Invalidation(ROOT, None)])

    async def _advance(self, name: str, revision: Revision) -> None:
        assert self._invalidator is not None
        await self._invalidator.switch(name, revision.root, revision.number)

    async def _withdraw(self, name: str) -> None:
        assert self._invalidator is not None
        self._filesystem.withdraw(name)
        await self._invalidator.drop([Invalidation(ROOT, os.fsencode(name))])

    def _session_kind(self) -> str:
        return self._session.kind if self._session else ""

    def _source(self) -> str:
        return self._settings.source or "lazyfs"

    # the control socket

    def _handlers(self) -> dict[str, control.Handler]:
        return {
            "pid": self._pid,
            "status": self._status,
            "refresh": self._refresh,
            "cache-resize": self._resize,
        }

    async def _pid(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"pid": os.getpid()}

    async def _status(self, _: dict[str, Any]) -> dict[str, Any]:
        return self._describe()

    def _describe(self) -> dict[str, Any]:
        """Everything there is to know, as JSON; called from the metrics' threads too."""
        tree = self._filesystem.tree
        with self._filesystem.lock:
            memory = {
                "slots": len(tree.slots),
                "catalogs": len(tree.parsed),
                "catalog_bytes": tree.parsed.bytes,
            }
        return {
            "mountpoint": self._settings.mountpoint,
            "source": self._source(),
            "session": self._session_kind(),
            "pid": os.getpid(),
            "uptime": round(time.time() - self._started, 1),
            "repositories": self._repositories.describe(),
            "counters": self._filesystem.counters.snapshot(),
            "memory": memory,
            "journal": self._journal.broken,
            "cache": msgspec.to_builtins(self._cache.stats()),
        }

    async def _refresh(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"repositories": await self._refresh_all()}

    async def _resize(self, request: dict[str, Any]) -> dict[str, Any]:
        resize = getattr(self._cache, "resize", None)
        limit = request.get("limit")
        if resize is None or not isinstance(limit, int):
            raise UsageError("this cache cannot be resized, or `limit` is not a number of bytes")
        await trio.to_thread.run_sync(resize, limit)
        return {"limit": limit}


def _mount(filesystem: Filesystem, settings: Settings) -> Session:
    root = os.geteuid() == 0
    options = MountOptions(
        source=settings.source or "lazyfs",
        suid=settings.suid,
        dev=settings.dev,
        permissions=settings.permissions or ("image" if root else "open"),
        allow_other=root or _user_allow_other(),
    )
    return make_session(settings.fuse, filesystem, settings.mountpoint, options)


def _user_allow_other() -> bool:
    try:
        with open("/etc/fuse.conf", encoding="utf-8") as lines:
            return any(line.strip() == "user_allow_other" for line in lines)
    except OSError:
        return False
