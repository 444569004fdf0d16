"""The owners of a path: a cache is opened only at a path that no other user could have prepared."""

import grp
import os
import pwd
import stat

from lazyfs_cache.errors import UnusableDirectory

_MAX_LINKS = 40
"""The largest number of links that are followed on one path, as in the kernel."""


def check_way(directory: str) -> None:
    """Raises UnusableDirectory if another user could replace what lies at the path `directory`, through a
    directory or a link on the way to it. Looks at the part of the path that exists. Raises OSError.

    It is enough to look at each name by its path: a directory that was found safe stays safe while the next
    name is looked at.
    """
    pending = _names(os.path.abspath(directory))
    here = "/"
    links = 0
    _check_step(directory, here, os.lstat(here))
    while pending:
        step = os.path.normpath(os.path.join(here, pending.pop()))
        try:
            found = os.lstat(step)
        except FileNotFoundError:
            return
        if not stat.S_ISLNK(found.st_mode):
            if pending:
                _check_step(directory, step, found)
            here = step
            continue
        links += 1
        if links > _MAX_LINKS or found.st_uid not in _trusted():
            raise UnusableDirectory(
                f"cache {directory}: {step} is a link of user {found.st_uid}; give a path without it"
            )
        target = os.readlink(step)
        here = "/" if target.startswith("/") else here
        pending += _names(target)


def check_contents(root: str) -> None:
    """Raises UnusableDirectory if a name in the cache directory is a link or another user's: it was put there
    while others could write. Raises OSError."""
    with os.scandir(root) as entries:
        for entry in entries:
            try:
                owner = entry.stat(follow_symlinks=False).st_uid
            except FileNotFoundError:
                continue  # another process has just renamed it: that is how it replaces a file
            if entry.name != "lost+found" and (owner != os.geteuid() or entry.is_symlink()):
                raise UnusableDirectory(
                    f"cache {root}: {entry.name} in it belongs to user {owner} or is a link; remove it, "
                    f"or give another directory"
                )


def others_can_write(found: os.stat_result) -> bool:
    """Returns True if a user other than the owner may add and replace names in a directory. A group with the
    owner's name and no other member does not count, because with pam_umask the files of such a user have mode
    0664."""
    mode = found.st_mode
    if mode & stat.S_IWOTH:
        return True
    return bool(mode & stat.S_IWGRP) and found.st_gid not in (0, _own_group(found.st_uid))


def _check_step(directory: str, step: str, found: os.stat_result) -> None:
    if found.st_uid not in _trusted():
        raise UnusableDirectory(
            f"cache {directory}: lies in a directory of user {found.st_uid} ({step}), who could replace it; "
            f"give one of your own"
        )
    if others_can_write(found) and not found.st_mode & stat.S_ISVTX:
        raise UnusableDirectory(
            f"cache {directory}: others may write to {step}, and could replace it; "
            f"give another directory, or chmod go-w {step}"
        )


def _own_group(user: int) -> int:
    """Returns the id of the group that is the user's alone, or -1."""
    try:
        group = grp.getgrnam(pwd.getpwuid(user).pw_name)
    except KeyError:
        return -1
    return -1 if set(group.gr_mem) - {group.gr_name} else group.gr_gid


def _trusted() -> tuple[int, ...]:
    """Returns the ids of root and this user; in a user namespace also the id that stands for all users
    outside it."""
    with open("/proc/self/uid_map", "rb") as file:
        everybody = file.read().split() == [b"0", b"0", b"4294967295"]
    if everybody:
        return (0, os.geteuid())
    with open("/proc/sys/kernel/overflowuid", "rb") as file:
        return (0, os.geteuid(), int(file.read()))


def _names(path: str) -> list[str]:
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]
