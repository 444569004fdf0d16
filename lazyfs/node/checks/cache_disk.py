"""Checks the cache directory and the disk that it is on."""

import os
import pwd
import stat
from collections.abc import Iterator

import msgspec

from lazyfs.core.byte_size import parse_size, shown_size
from lazyfs.core.errors import LazyfsError
from lazyfs.daemon.cache_directory import default_cache
from lazyfs.node.findings import Finding, Level
from lazyfs.node.surroundings import Surroundings
from lazyfs.system import mountpoint as points
from lazyfs.system.trusted_files import Untrusted, open_directory, trusted_users

FULL = 16 << 20
"""A disk with fewer free bytes counts as full: the largest object needs as many."""
_NETWORK = (
    "nfs",
    "cifs",
    "smb",
    "lustre",
    "gpfs",
    "ceph",
    "afs",
    "9p",
    "fuse",
    "glusterfs",
    "beegfs",
    "gfs",
    "ocfs",
)
"""The beginnings of the names of filesystems on which a cache is refused: locks and mapped files do not work
between machines."""


class CacheFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts about one cache directory. Sizes are in bytes."""

    directory: str
    user: int = 0
    """The user that daemons with this cache run as."""
    owner: int | None = 0
    """The directory's owner; None if it is not made yet. The other facts are then those of the directory
    above."""
    untrusted: str = ""
    """The reason why another user could replace the directory; empty if nobody could."""
    fault: str = ""
    """The reason why nothing could be found out."""
    fstype: str = "ext4"
    read_only: bool = False
    size: int = 1 << 40
    free: int = 1 << 40
    files_free: int | None = None
    """Files that can still be made; None if the filesystem does not count them."""
    limit: int = 4 << 30
    charged: int = 0
    """The bytes that the cache takes already, if a daemon reports them; otherwise 0."""
    off: str = ""
    """The reason why a daemon works without its cache; empty if it works with the cache."""


def gather(found: Surroundings) -> list[CacheFacts]:
    """Returns the facts about the cache directory of each mount, and of each mount that is to be made; about
    the default directory if there are no mounts."""
    known: dict[str, CacheFacts] = {}
    for one in found.mounts:
        status = one.looked.status
        if status is not None and status.cache.directory:
            cache = status.cache
            directory = os.path.dirname(cache.directory)
            user = one.mount.owner if one.mount.owner is not None else os.geteuid()
            off = cache.state.partition(": ")[2] if cache.state.startswith("off") else ""
            known[directory] = _look(directory, user, cache.limit, cache.charged, off)
    for wanted in found.wanted:
        limit = parse_size(wanted.settings.cache_limit, "cache_limit")
        directory = wanted.settings.cache or default_cache()
        if limit and directory not in known:
            name = wanted.settings.user
            known[directory] = _look(directory, pwd.getpwnam(name).pw_uid if name else os.geteuid(), limit)
    if not known and not found.wanted:
        known[""] = _look(default_cache(), os.geteuid(), 0)
    return list(known.values())


def judge(facts: list[CacheFacts]) -> Iterator[Finding]:
    for one in facts:
        yield from _judge(one)


def _judge(one: CacheFacts) -> Iterator[Finding]:
    where = f"the cache directory {one.directory}"
    if one.fault:
        yield Finding(Level.ERROR, f"{where}: {one.fault}", "give another with --cache, or mend its disk")
        return
    if one.untrusted:
        wrong, _, do = one.untrusted.partition("; ")
        yield Finding(Level.ERROR, f"cache directory {wrong}", do or "give another with --cache")
        return
    if one.read_only:
        yield Finding(
            Level.ERROR,
            f"{where} is on a filesystem that is read-only",
            "look for its error (dmesg), mount -o remount,rw, or give another with --cache",
        )
    if one.owner not in (None, one.user):
        yield Finding(
            Level.ERROR,
            f"{where} belongs to user {one.owner}, but mounts use it as user {one.user}",
            f"chown -R {one.user} {one.directory}, or give another with --cache",
        )
    if one.fstype.startswith(_NETWORK):
        yield Finding(
            Level.ERROR,
            f"{where} is on {one.fstype}, where a cache is refused: locks do not hold between machines",
            "give a directory of a local disk with --cache",
        )
    elif one.fstype in ("tmpfs", "ramfs"):
        yield Finding(
            Level.WARNING,
            f"{where} is in memory ({one.fstype}): what is cached takes memory from the jobs",
            "give a directory of a local disk with --cache",
        )
    if one.off:
        yield Finding(
            Level.WARNING, f"{where} is not used: {one.off}", "mend its disk; it comes back by itself"
        )
    if not one.read_only:
        yield from _space(one, where)


def _space(one: CacheFacts, where: str) -> Iterator[Finding]:
    if one.files_free == 0:
        yield Finding(
            Level.ERROR,
            f"the disk of {where} has no inode left",
            "remove files, or give another with --cache",
        )
    if one.limit > one.size:
        yield Finding(
            Level.WARNING,
            f"{where} may take {shown_size(one.limit)}, but its disk has {shown_size(one.size)} in all",
            f"lazyfs cache resize to less than {shown_size(one.size)}, and the same in --cache-limit",
        )
    elif one.free < FULL and one.charged + FULL < one.limit:
        yield Finding(
            Level.ERROR,
            f"the disk of {where} is full: {shown_size(one.free)} free, {shown_size(one.charged)} cached",
            "free space, or set --cache-keep-free so that the cache makes room for others",
        )
    elif one.charged + one.free < one.limit:
        yield Finding(
            Level.WARNING,
            f"{where} may take {shown_size(one.limit)}, but there is room for "
            f"{shown_size(one.charged + one.free)} only",
            "free space, or make the limit smaller: lazyfs cache resize, and --cache-limit",
        )


def _look(directory: str, user: int, limit: int, charged: int = 0, off: str = "") -> CacheFacts:
    made = CacheFacts(directory=directory, user=user, limit=limit, charged=charged, off=off)
    there = directory
    while not os.path.lexists(there):  # the directory in which `mount` would make it
        there = os.path.dirname(there)
    changes: dict[str, object] = {}
    try:
        try:
            os.close(open_directory(there, trusted_users() - {os.geteuid()} | {0, user}))
        except Untrusted as error:
            changes["untrusted"] = str(error)
        status, disk = os.stat(there), os.statvfs(there)
    except (OSError, LazyfsError) as error:
        return msgspec.structs.replace(made, fault=getattr(error, "strerror", None) or str(error))
    if not stat.S_ISDIR(status.st_mode):
        return msgspec.structs.replace(made, fault="is no directory")
    return msgspec.structs.replace(
        made,
        **changes,
        owner=status.st_uid if there == directory else None,
        fstype=_fstype(status.st_dev),
        read_only=bool(disk.f_flag & os.ST_RDONLY),
        size=disk.f_blocks * disk.f_frsize,
        free=disk.f_bavail * disk.f_frsize if user else disk.f_bfree * disk.f_frsize,
        files_free=disk.f_ffree if disk.f_files else None,
    )


def _fstype(device: int) -> str:
    """Returns the kind of the filesystem with this device; empty if the table of mounts does not have the
    device, as with btrfs."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    return next((mount.fstype for mount in points.mounts() if mount.device == wanted), "")
