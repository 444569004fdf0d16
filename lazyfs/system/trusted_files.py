"""Opens the daemon's own files and directories in such a way that no other user can substitute another file.

A path is walked by descriptor, one name at a time. A user who may change a directory on the way decides the
end of the path. So each directory must belong to root or to a trusted user, and nobody else may write to it.
In a sticky directory (/tmp) others may add names, but not replace ours. A link is followed if its owner is
trusted.
"""

import errno
import grp
import os
import pwd
import stat
from collections.abc import Set
from contextlib import suppress

from lazyfs.core.errors import UsageError
from lazyfs.system.rooted_paths import MAX_LINKS
from lazyfs.system.user_namespace import has_all_users

_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_OVERFLOW = "/proc/sys/kernel/overflowuid"


class Untrusted(UsageError):
    """Another user could choose the file that a path leads to, or the content of the file."""


def trusted_users() -> frozenset[int]:
    """Returns the ids of root and of this process's user. In a user namespace also returns the id that stands
    for all users outside it, the machine's root among them: their directories cannot be told apart."""
    users = {0, os.geteuid()}
    if not has_all_users():
        # read as bytes: by now no codec could be imported from below /root
        with open(_OVERFLOW, "rb") as file:
            users.add(int(file.read()))
    return frozenset(users)


def open_directory(path: str, users: Set[int] | None = None, *, make: bool = False) -> int:
    """Returns a descriptor (O_PATH) of a directory that only `users` could have put there.

    `make`: the directory and those above it are made if they are missing, the last with mode 0700. Raises
    OSError, and Untrusted, whose text names the directory or link, its owner and a remedy.
    """
    walk = _Walk(path, trusted_users() if users is None else users, checked=True)
    try:
        walk.to_directory(make=make)
        return os.dup(walk.here)
    finally:
        walk.close()


def make_private_directory(path: str) -> None:
    """Makes sure that `path` is a directory that only this process's user may write to. Raises Untrusted,
    OSError."""
    number = open_directory(path, make=True)
    try:
        found = os.fstat(number)
    finally:
        os.close(number)
    if found.st_uid != os.geteuid():
        raise Untrusted(
            f"{path}: belongs to {_name(found.st_uid)}, not to {_name(os.geteuid())}; "
            f"give another directory, or change its owner"
        )
    if found.st_mode & stat.S_IWOTH or _group_can_write(found):
        raise Untrusted(f"{path}: others may write to it; give another directory, or chmod 0700 {path}")


def is_private_directory(path: str) -> bool:
    """Returns True if `path` is a directory that belongs to this user or root, that nobody else could have
    put there, and that nobody else may write to."""
    try:
        number = open_directory(path)
    except (OSError, Untrusted):
        return False
    try:
        return not os.fstat(number).st_mode & _OTHERS
    finally:
        os.close(number)


def open_file(path: str, flags: int) -> int:
    """Opens a regular file of this user's or root's in a directory that nobody else may write to; with
    O_CREAT makes it, with mode 0600. Raises Untrusted, OSError."""
    return _open(path, flags, 0o600, checked=True)


def open_output(path: str) -> int:
    """Opens a file for appending, or makes it with mode 0640. Any directory is allowed, because logs are
    written to /var/log, to /tmp and to the working directories of jobs.

    Follows no link of another user's, and writes to no file of another user's, also not through a hard link.
    Devices are allowed. Raises Untrusted, OSError.
    """
    return _open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640, checked=False)


def _open(path: str, flags: int, mode: int, *, checked: bool) -> int:
    walk = _Walk(path, trusted_users(), checked=checked)
    try:
        name = walk.to_file()
        # O_NONBLOCK: a FIFO without a reader would be waited for.
        number = os.open(name, flags | _FLAGS | os.O_NONBLOCK, mode, dir_fd=walk.here)
        try:
            walk.check_file(os.fstat(number))
            os.set_blocking(number, True)
        except BaseException:
            os.close(number)
            raise
        return number
    finally:
        walk.close()


class _Walk:
    """A walk along a path from /; `here` is the directory reached."""

    def __init__(self, path: str, users: Set[int], *, checked: bool) -> None:
        """`checked`: the directories on the way must be trusted too, not only the links."""
        self._path = os.path.abspath(path)
        self._users = users
        self._checked = checked
        self._pending = _names(self._path)
        self._shown = "/"
        self._links = 0
        self.here = os.open("/", os.O_PATH | os.O_DIRECTORY | _FLAGS)
        self._check_directory(os.fstat(self.here))

    def close(self) -> None:
        os.close(self.here)

    def to_directory(self, *, make: bool) -> None:
        """Walks the whole path. `make`: missing directories are made. Raises Untrusted, OSError."""
        while self._pending:
            name = self._pending.pop()
            try:
                self._step(name)
            except FileNotFoundError:
                if not make:
                    raise
                with suppress(FileExistsError):
                    os.mkdir(name, 0o755 if self._pending else 0o700, dir_fd=self.here)
                self._step(name)

    def to_file(self) -> str:
        """Walks to the directory of the path's last name, through links, and returns that name. A file of
        that name, if there is one, is not a link. Raises Untrusted, OSError."""
        while len(self._pending) > 1 or self._is_link():
            self._step(self._pending.pop())
        if not self._pending:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self._path)
        return self._pending[0]

    def _is_link(self) -> bool:
        try:
            found = (
                os.stat(self._pending[0], dir_fd=self.here, follow_symlinks=False) if self._pending else None
            )
        except FileNotFoundError:
            return False
        return found is not None and stat.S_ISLNK(found.st_mode)

    def _step(self, name: str) -> None:
        following = os.open(name, os.O_PATH | _FLAGS, dir_fd=self.here)
        shown = os.path.normpath(os.path.join(self._shown, name))
        try:
            found = os.fstat(following)
            if stat.S_ISLNK(found.st_mode):
                self._follow(os.readlink("", dir_fd=following), found, shown)
                return
            if not stat.S_ISDIR(found.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), shown)
            self._shown = shown
            self._check_directory(found)
            self.here, following = following, self.here
        finally:
            os.close(following)

    def _follow(self, target: str, link: os.stat_result, shown: str) -> None:
        self._links += 1
        if self._links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), self._path)
        if link.st_uid not in self._users:
            raise Untrusted(
                f"{self._path}: {shown} is a link of {_name(link.st_uid)}, which leads to {target}; "
                f"remove it, or give a path without it"
            )
        if target.startswith("/"):
            os.close(self.here)
            self.here = os.open("/", os.O_PATH | os.O_DIRECTORY | _FLAGS)
            self._shown = "/"
        self._pending += _names(target)

    def _check_directory(self, found: os.stat_result) -> None:
        if not self._checked:
            return
        if found.st_uid not in self._users:
            raise Untrusted(
                f"{self._path}: {self._shown} belongs to {_name(found.st_uid)}, who could put anything "
                f"there; give another path, or change its owner"
            )
        if self._writable_by_others(found):
            raise Untrusted(
                f"{self._path}: others than {_name(found.st_uid)} may write to {self._shown}, and put "
                f"anything there; give another path, or chmod go-w {self._shown}"
            )

    def _writable_by_others(self, found: os.stat_result) -> bool:
        if found.st_mode & stat.S_ISVTX:
            return False
        return bool(found.st_mode & stat.S_IWOTH) or _group_can_write(found)

    def check_file(self, found: os.stat_result) -> None:
        """Raises Untrusted for an open file that another user may have prepared."""
        kinds = (stat.S_IFREG,) if self._checked else (stat.S_IFREG, stat.S_IFCHR)
        if stat.S_IFMT(found.st_mode) not in kinds:
            raise Untrusted(f"{self._path}: is no regular file; remove it, or give another path")
        if found.st_uid not in self._users:
            raise Untrusted(
                f"{self._path}: belongs to {_name(found.st_uid)}; remove it, change its owner, or give "
                f"another path"
            )
        if self._checked and (found.st_mode & stat.S_IWOTH or _group_can_write(found)):
            raise Untrusted(f"{self._path}: others may write it; remove it, or chmod 0600 {self._path}")
        above = os.fstat(self.here)
        if found.st_nlink > 1 and (above.st_uid not in self._users or above.st_mode & _OTHERS):
            raise Untrusted(
                f"{self._path}: the same file has another name, and others may write to {self._shown}: one "
                f"of them may have put it there; remove it, or give another path"
            )


def _names(path: str) -> list[str]:
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _group_can_write(found: os.stat_result) -> bool:
    """Returns True if a file is writable for its group, unless the group is root's or the owner's alone. A
    group with the owner's name and no other member is the owner's alone: with pam_umask the owner's files
    have mode 0664.
    """
    if not found.st_mode & stat.S_IWGRP or found.st_gid == 0:
        return False
    try:
        owner, group = pwd.getpwuid(found.st_uid), grp.getgrgid(found.st_gid)
    except KeyError:
        return True
    return owner.pw_name != group.gr_name or bool(set(group.gr_mem) - {owner.pw_name})


def _name(user: int) -> str:
    try:
        return f"user {user} ({pwd.getpwuid(user).pw_name})"
    except KeyError:
        return f"user {user}"
