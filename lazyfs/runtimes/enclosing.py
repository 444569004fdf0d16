"""Makes namespaces and mounts around a new process, as an `Enclosure` describes them."""

import json
import os
import signal
from contextlib import suppress
from typing import NoReturn

from lazyfs.runtimes.enclosed_init import NOT_STARTED, listen, wait
from lazyfs.runtimes.enclosure import Enclosure
from lazyfs.runtimes.proc_covers import list_proc, proc_covers
from lazyfs.system import binds, namespaces
from lazyfs.system.clean_start import close_descriptors
from lazyfs.system.private_mounts import mount_joined
from lazyfs.system.rooted_paths import open_without_links

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)
_HIDDEN = ("/sys/fs/cgroup/unified",)
"""Paths that are hidden from runtimes: crun refuses to start where both versions of cgroups are mounted."""


def enter(enclosure: Enclosure, status: int, user: tuple[int, int] | None = None) -> None:
    """Moves the start into the enclosure: returns in a new process inside it, which then executes the
    runtime. The calling process and the enclosure's init never return. They wait for the new process; the
    init writes a report to the descriptor `status`; then both exit. `user`: the ids of the user and group
    that root becomes first; None for the caller's.

    Call it between fork and exec. Does not raise.
    """
    try:
        os.set_inheritable(status, False)
        outer = user or (os.geteuid(), os.getegid())
        flags = namespaces.NEW_MOUNTS | namespaces.NEW_PIDS | namespaces.NEW_IPC | namespaces.NEW_UTS
        flags |= 0 if enclosure.network else namespaces.NEW_NETWORK
        inner = (0, 0) if enclosure.shows_root else outer
        if outer[0] != os.geteuid():
            namespaces.become_in_user_namespace(flags, inner, outer)
        elif outer[0]:
            namespaces.unshare(flags | namespaces.NEW_USER)
            namespaces.map_numbers(inner, outer)
        else:
            if user is not None:  # root with another group
                os.setgroups([])
                os.setresgid(outer[1], outer[1], outer[1])
            namespaces.unshare(flags)
        init = os.fork()
    except OSError as error:
        _give_up(status, error)
    if init:
        _close_others(status)
        _can_be_ended()
        _, ended = os.waitpid(init, 0)
        os._exit(os.waitstatus_to_exitcode(ended) & 0xFF)
    try:
        namespaces.end_with_parent()
        _furnish(enclosure)
        notices = listen(enclosure)
        runtime = os.fork()
    except OSError as error:
        _give_up(status, error)
    if runtime:
        _close_others(status, *([] if notices is None else [notices.fileno()]))
        wait(runtime, enclosure, status, notices)
    if enclosure.evidence_open and enclosure.evidence is not None:
        file = os.open(os.path.join(enclosure.scratch, enclosure.evidence), os.O_WRONLY | os.O_CREAT)
        os.dup2(file, status)


def _can_be_ended() -> None:
    """Restores the default effect of signals: they end this process, and with it the start. As long as there
    is no program, the caller's signals are sent to this process."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)


def _give_up(status: int, error: OSError) -> NoReturn:
    text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    os.write(status, json.dumps({"error": text}).encode())
    os._exit(NOT_STARTED)


def _close_others(*kept: int) -> None:
    """Closes all descriptors but the standard streams and `kept`: subprocess waits until every copy of its
    pipe is closed."""
    close_descriptors(kept)


def _furnish(enclosure: Enclosure) -> None:
    """Mounts and writes everything that the runtime finds inside. Raises OSError."""
    namespaces.mount("", "/", flags=namespaces.RECURSIVE | namespaces.SLAVE)
    _mount_proc()
    plain = namespaces.NOSUID | namespaces.NODEV
    if os.path.isdir("/dev/shm"):  # noqa: S108 - a machine-wide directory that the program must not share
        namespaces.mount("tmpfs", "/dev/shm", "tmpfs", plain, "mode=1777")  # noqa: S108
    for path in _HIDDEN:
        if os.path.isdir(path):
            namespaces.mount("tmpfs", path, "tmpfs", plain | namespaces.READ_ONLY)
    if os.geteuid() == 0 and not enclosure.shows_root:
        _cover_proc()
    if enclosure.frozen is not None and os.geteuid() == 0:
        binds.restrict(enclosure.frozen, namespaces.READ_ONLY)
    if not enclosure.network:
        namespaces.start_loopback()
    os.umask(0o022)
    scratch = enclosure.scratch
    namespaces.mount("tmpfs", scratch, "tmpfs", plain, "mode=0755")
    for source in enclosure.sources:
        path = os.path.join(scratch, source.name)
        _write(path + "/" if os.path.isdir(source.source) else path, b"")
        binds.bind(source.source, path, read_only=source.read_only, devices=source.device)
    if enclosure.own_devices:
        _make_devices(os.path.join(scratch, "devices"))
    for path in enclosure.covered:
        written = any(name.startswith(f"{path}/") for name in enclosure.files)
        flags = plain | (0 if written else namespaces.READ_ONLY)
        namespaces.mount("tmpfs", path, "tmpfs", flags, "mode=0755")
    for path, content in enclosure.files.items():
        _write(os.path.join(scratch, path), content)
    if enclosure.added:
        _join(enclosure)


def _mount_proc() -> None:
    try:
        namespaces.mount("proc", "/proc", "proc", namespaces.NOSUID | namespaces.NODEV | namespaces.NOEXEC)
    except PermissionError as error:
        reason = "a new /proc is not allowed here: the container around this one covers parts of its /proc"
        raise PermissionError(error.errno, reason) from None


def _cover_proc() -> None:
    """Protects two kinds of parts of /proc: those that are the same in all namespaces, and those through
    which root can change the machine. Hides some of these parts and makes the other parts read-only."""
    found = proc_covers(list_proc())
    for name in found.read_only:
        binds.bind(f"/proc/{name}", f"/proc/{name}", read_only=True, devices=False)
    for name in found.empty_files:
        binds.bind(os.devnull, f"/proc/{name}", read_only=True, devices=True)
    for name in found.empty_directories:
        namespaces.mount("tmpfs", f"/proc/{name}", "tmpfs", namespaces.READ_ONLY | namespaces.NODEV)


def _make_devices(new: str) -> None:
    """Mounts a new /dev over the machine's, with the devices that every program may use."""
    os.mkdir(new)
    namespaces.mount("tmpfs", new, "tmpfs", namespaces.NOSUID, "mode=0755")
    for name in _DEVICES:
        if os.path.exists(f"/dev/{name}"):
            _write(f"{new}/{name}", b"")
            binds.bind(f"/dev/{name}", f"{new}/{name}", read_only=False, devices=True)
    for name, target in _DEVICE_LINKS:
        os.symlink(target, f"{new}/{name}")
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(f"{new}/{name}")
    options = "newinstance,ptmxmode=0666,mode=0620"
    namespaces.mount("devpts", f"{new}/pts", "devpts", namespaces.NOSUID | namespaces.NOEXEC, options)
    namespaces.mount("tmpfs", f"{new}/shm", "tmpfs", namespaces.NOSUID | namespaces.NODEV, "mode=1777")
    namespaces.mount(new, "/dev", flags=namespaces.BIND | namespaces.RECURSIVE)


def _write(path: str, content: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if not path.endswith("/"):
        with open(path, "wb") as file:
            file.write(content)
        if content.startswith(b"#!"):
            os.chmod(path, 0o755)  # noqa: S103 - a program, in a directory that is ours


def _join(enclosure: Enclosure) -> None:
    """Adds the missing names to the image. Makes a directory with these names, and mounts an overlay over the
    image, in which the image and this directory are joined. A directory that both have keeps the image's
    mode."""
    lower = os.open(enclosure.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    top = os.path.join(enclosure.scratch, "added")
    os.mkdir(top)
    os.chmod(top, os.fstat(lower).st_mode & 0o7777)
    for added in enclosure.added:
        names = added.path.strip("/").split("/")
        for depth in range(1, len(names) + (1 if added.is_directory else 0)):
            path = os.path.join(top, *names[:depth])
            with suppress(FileExistsError):
                os.mkdir(path)
                os.chmod(path, _mode(lower, "/".join(names[:depth])))
        if added.link is not None:
            os.symlink(added.link, os.path.join(top, *names))
        elif not added.is_directory:
            _write(os.path.join(top, *names), b"")
    upper = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mount_joined(lower, upper, lower)
    os.close(lower)
    os.close(upper)


def _mode(root: int, path: str) -> int:
    try:
        number = open_without_links(root, path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        return 0o755
    mode = os.fstat(number).st_mode & 0o7777
    os.close(number)
    return mode
