"""The ids of a daemon that mounts as root and serves as another user.

With a user configured, the process lowers its effective ids before it opens cache and network, raises them
for the moment of mount(2), and drops them for good when the mount answers.
"""

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from lazyfs.core.errors import UsageError
from lazyfs.daemon.late_imports import BEFORE_ROOT_IS_GIVEN_UP, load
from lazyfs.system.trusted_files import Untrusted, open_directory


class Privileges:
    """The user and group ids of the daemon. Without a configured user, every call does nothing."""

    def __init__(self, user: str | None) -> None:
        """Looks up the user. Raises UsageError if the user does not exist, or if this process runs neither as
        root nor as the user. It runs as the user if a daemon that gave up root has replaced its program."""
        self._account: pwd.struct_passwd | None = None
        self._dropped = False
        if user is None:
            return
        try:
            self._account = pwd.getpwnam(user)
        except KeyError:
            raise UsageError(f"--user {user}: no such user; create it, or leave the option out") from None
        self._dropped = set(os.getresuid()) == {self._account.pw_uid}
        if os.geteuid() != 0 and not self._dropped:
            raise UsageError(f"--user {user}: only root can become somebody else; leave the option out")
        load(BEFORE_ROOT_IS_GIVEN_UP)  # an interpreter below /root cannot be read afterwards

    def make_own(self, directory: str) -> None:
        """Makes sure that the directory exists and belongs to the user. Raises UsageError.

        Root gives the user a directory only if nobody but root could have put it there, and if no file in it
        is root's. Elsewhere, for example below the user's home, the directory is made with the user's ids.
        """
        try:
            if self._account and not self._dropped:
                self._give(directory)
                self.become_user()
            os.close(open_directory(directory, make=True))
            if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(13, "Permission denied")
        except Untrusted as error:
            raise UsageError(f"cache directory {error} (--cache)") from None
        except OSError as error:
            raise UsageError(
                f"cache directory {directory}: {error.strerror}; give another with --cache"
            ) from None

    def _give(self, directory: str) -> None:
        assert self._account is not None
        try:
            number = open_directory(directory, {0}, make=True)
        except Untrusted:
            return
        try:
            own = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=number)
        finally:
            os.close(number)
        try:
            if os.fstat(own).st_mode & stat.S_ISVTX:
                return  # a directory for all users, in which the user makes its own files
            if set(os.listdir(own)) - {"lost+found"}:
                raise UsageError(
                    f"cache directory {directory}: belongs to root and holds files, which "
                    f"{self._account.pw_name} would get; give another with --cache, or chown -R this one"
                )
            os.fchown(own, self._account.pw_uid, self._account.pw_gid)
        finally:
            os.close(own)

    def become_user(self) -> None:
        """Puts the user's ids into effect, and keeps root's for `raised`.

        The real ids are the user's from here on. The kernel records them as the mount's owner, so that the
        daemon can unmount after `drop`.
        """
        if self._account and not self._dropped and os.geteuid() == 0:
            os.setgroups([self._account.pw_gid])
            os.setresgid(self._account.pw_gid, self._account.pw_gid, 0)
            os.setresuid(self._account.pw_uid, self._account.pw_uid, 0)

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Puts root's ids into effect during the block, unless they have been dropped."""
        if not self._account or self._dropped:
            yield
            return
        os.seteuid(0)
        os.setegid(0)
        try:
            yield
        finally:
            self.become_user()

    def drop(self) -> None:
        """Gives up root's ids for good."""
        if self._account and not self._dropped:
            os.seteuid(0)
            os.setresgid(self._account.pw_gid, self._account.pw_gid, self._account.pw_gid)
            os.setresuid(self._account.pw_uid, self._account.pw_uid, self._account.pw_uid)
            self._dropped = True
