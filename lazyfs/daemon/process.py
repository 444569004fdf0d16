"""The process behind a mount: opens its resources before the event loop runs, and closes them after it.

The order keeps a start cheap. First come the checks that fork, because a small process forks cheaply. Then
the modules that answer from local objects are loaded, and the mount answers. After that, trio and all other
modules are loaded.
"""

import gc
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from lazyfs.core.errors import LazyfsError
from lazyfs.daemon import runtime_directory
from lazyfs.daemon.cache_directory import default_cache
from lazyfs.daemon.control_socket import sweep
from lazyfs.daemon.log import DaemonLog
from lazyfs.daemon.mount_lock import MountLock
from lazyfs.daemon.settings import Settings
from lazyfs.daemon.survival.handed_state import TakenMount
from lazyfs.daemon.survival.handover import Handover
from lazyfs.daemon.survival.keeper_line import Holder
from lazyfs.fuse.device import check_device, is_connected
from lazyfs.system import mountpoint

if TYPE_CHECKING:
    from lazyfs.daemon.answering_mount import AnsweringMount
    from lazyfs.daemon.certificates import Certificates
    from lazyfs.daemon.setting_origins import Origin

LONGEST_WAIT = 60.0
"""Upper limit, in seconds, of the time that a mount waits for another mount on the same mount point. If the
settings' `patience` is shorter, it is the limit."""

log = logging.getLogger(__name__)


def run(
    settings: Settings,
    origins: Mapping[str, "Origin"],
    ready: Callable[[Sequence[str]], None],
    log_file: str | None,
    keeper: Holder,
) -> None:
    """Mounts and serves until unmounted.

    `origins`: the origin of each setting, for callers of the control socket. Once programs can use the mount,
    calls `ready` with notes for the operator, a line each. `log_file`: the file that is open as standard
    error, or None. Raises LazyfsError, before `ready`, if the mount fails; the mount point is then unchanged.
    """
    daemon_log = _begin(DaemonLog(log_file))
    check_device()
    runtime = runtime_directory.directory()
    sweep(runtime)
    lock = MountLock(runtime, settings.mountpoint, min(settings.patience, LONGEST_WAIT))
    notes = []
    try:
        prepared = mountpoint.prepare(settings.mountpoint)
        if prepared.was_dead:
            log.info("%s: took away a mount whose daemon had died", settings.mountpoint)
        if prepared.holds_files:
            notes.append(f"{settings.mountpoint} is not empty: its files are hidden until the unmount")
        handover = Handover(settings, origins, log_file, keeper, settings.cache or default_cache())
        _serve(settings, origins, handover, runtime, lambda more: ready([*notes, *more]), daemon_log, lock)
    finally:
        lock.release()


def resume(
    taken: TakenMount,
    keeper: Holder,
    daemon_log: DaemonLog,
    ready: Callable[[Sequence[str]], None] | None = None,
) -> None:
    """Takes over a mount that another process has made, and serves it until it is unmounted. `ready` is
    called with notes for the operator once the mount answers; without `ready` the notes go to the log. Raises
    LazyfsError."""
    _begin(daemon_log)
    state = taken.state
    directory = state.settings.cache or state.cache or default_cache()
    handover = Handover(state.settings, state.origins, state.log, keeper, directory, taken)
    if not is_connected(taken.held.device):
        handover.end()
        return
    runtime = os.path.dirname(taken.listening.path) if taken.listening else runtime_directory.directory()
    _serve(state.settings, state.origins, handover, runtime, ready or _say_notes, daemon_log)


def check_settings(settings: Settings) -> None:
    """Raises UsageError for settings whose files cannot be read."""
    from lazyfs.daemon.certificates import Certificates

    Certificates(settings)


def _say_notes(notes: Sequence[str]) -> None:
    for note in notes:
        log.warning("%s", note)


def _begin(daemon_log: DaemonLog) -> DaemonLog:
    daemon_log.begin()
    sys.setswitchinterval(50e-6)  # a busy fetching thread would otherwise delay an answer by 5 ms
    return daemon_log


def _serve(
    settings: Settings,
    origins: Mapping[str, "Origin"],
    handover: Handover,
    runtime: str,
    ready: Callable[[Sequence[str]], None],
    daemon_log: DaemonLog,
    lock: MountLock | None = None,
) -> None:
    gc.disable()  # until all modules are loaded: they make many objects and no garbage
    from lazyfs.daemon.answering_mount import AnsweringMount
    from lazyfs.daemon.certificates import Certificates
    from lazyfs.daemon.mount_cache import MountCache
    from lazyfs.daemon.privileges import Privileges

    privileges = Privileges(settings.user)
    certificates = Certificates(settings)
    directory = handover.cache
    privileges.make_own(directory)
    privileges.become_user()
    cache = MountCache(directory, settings)
    try:
        state = os.path.join(directory, "state")
        mount = AnsweringMount(settings, cache, state, runtime, privileges, lock, daemon_log, handover)
        try:
            _answer(mount, certificates, origins, lambda: ready(cache.notes))
        except BaseException as error:
            if handover.is_kept and not (mount.answers and isinstance(_cause(error), LazyfsError)):
                log.exception("this daemon fails; the mount stays for its successor")
                os._exit(1)
            raise
        finally:
            mount.close()
    except BaseExceptionGroup as group:
        raise _cause(group) from None
    finally:
        gc.enable()
        cache.close()


def _answer(
    mount: "AnsweringMount",
    certificates: "Certificates",
    origins: Mapping[str, "Origin"],
    ready: Callable[[], None],
) -> None:
    known = mount.show_known()
    if mount.answers_alone:
        mount.keep_signals()
        mount.mount()
        mount.answer(ready)
        mount.wait_for_work()
    mount.open_cache()
    import trio

    from lazyfs.daemon.served_mount import ServedMount

    trio.run(ServedMount(mount, certificates, known, origins).serve, ready)


def _cause(error: BaseException) -> BaseException:
    """Returns the first error of a group that a user can act on; if there is none, the first error of the
    group. An error that is no group is returned as it is."""
    leaves: list[BaseException] = []
    if not isinstance(error, BaseExceptionGroup):
        return error
    groups = [error]
    for one in groups:
        for inner in one.exceptions:
            if isinstance(inner, BaseExceptionGroup):
                groups.append(inner)
            else:
                leaves.append(inner)
    return next((leaf for leaf in leaves if isinstance(leaf, LazyfsError)), leaves[0])
