"""The ids of a daemon that mounts as root and serves as another user.

With a user configured, the process lowers its effective ids before it opens cache and network, raises them
for the moment of mount(2), and drops them for good when the mount answers.
"""

import importlib
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from lazyfs.core.errors import UsageError
from lazyfs.system.path_of_root import path_of_root

_LATE = (
    "_strptime",
    "encodings.idna",
    "lazyfs.fuse.direct.session",
    "lazyfs.daemon.metrics",
    "lazyfs.fuse.pyfuse3_session",
    "lazyfs.transport.curl_client",
    "lazyfs.transport.handshake",
    "lazyfs.transport.requests_client",
    "lmdb._envid",
    "prometheus_client",
    "tuf.api.serialization.json",
)
"""Modules that are imported at their first use: an interpreter below /root is out of reach by then. Those
that are not installed, or that a library's version lacks, are passed over."""


class Privileges:
    """The ids of the daemon. Without a user, every call does nothing."""

    def __init__(self, user: str | None) -> None:
        """Raises UsageError if the user does not exist or this is not root."""
        self._account: pwd.struct_passwd | None = None
        self._dropped = False
        if user is None:
            return
        try:
            self._account = pwd.getpwnam(user)
        except KeyError:
            raise UsageError(f"--user {user}: no such user; create it, or leave the option out") from None
        if os.geteuid() != 0:
            raise UsageError(f"--user {user}: only root can become somebody else; leave the option out")
        for module in _LATE:
            with suppress(ModuleNotFoundError):
                importlib.import_module(module)

    def make_own(self, directory: str) -> None:
        """Makes the directory if need be, the user's, and lowers the ids. Raises UsageError.

        As the user, where the user can do it; as root only where nobody else can have another directory be
        meant: given away through a link, it would be the user's, whatever it was.
        """
        self.lower()
        try:
            if self._account and not self._made(directory):
                with self.raised():
                    self._hand_over(directory, self._account)
            os.makedirs(directory, mode=0o700, exist_ok=True)
            owner = os.stat(directory).st_uid
            if owner != os.geteuid():
                raise UsageError(
                    f"cache directory {directory}: belongs to user {owner}, who could put anything into it; "
                    f"give another with --cache, or change its owner"
                )
            if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(13, "Permission denied")
        except OSError as error:
            raise UsageError(
                f"cache directory {directory}: {error.strerror}; give another with --cache"
            ) from None

    def _made(self, directory: str) -> bool:
        """Returns True if it is not for root to make the directory, or to give it away."""
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            return os.geteuid() == 0 or os.stat(directory).st_uid != 0
        except PermissionError:
            return False

    def _hand_over(self, directory: str, account: pwd.struct_passwd) -> None:
        """Gives the user a directory of root's. Raises UsageError, OSError."""
        try:
            real = path_of_root(directory)
        except UsageError as error:
            raise UsageError(
                f"cache directory {error}; make it {account.pw_name}'s yourself, or give another with --cache"
            ) from None
        os.makedirs(real, mode=0o700, exist_ok=True)
        number = os.open(real, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(number).st_uid == 0:
                os.fchown(number, account.pw_uid, account.pw_gid)
        finally:
            os.close(number)

    def lower(self) -> None:
        """The user's ids in effect, root's kept for `raised`.

        The real ids are the user's from here on: the mount is made in their name, so that the daemon can take
        it away after `drop`.
        """
        if self._account and not self._dropped and os.geteuid() == 0:
            os.setgroups([self._account.pw_gid])
            os.setresgid(self._account.pw_gid, self._account.pw_gid, 0)
            os.setresuid(self._account.pw_uid, self._account.pw_uid, 0)

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Root's ids for the length of a block, unless they have been dropped."""
        if not self._account or self._dropped:
            yield
            return
        os.seteuid(0)
        os.setegid(0)
        try:
            yield
        finally:
            self.lower()

    def drop(self) -> None:
        """The user's ids for good."""
        if self._account and not self._dropped:
            os.seteuid(0)
            os.setresgid(self._account.pw_gid, self._account.pw_gid, self._account.pw_gid)
            os.setresuid(self._account.pw_uid, self._account.pw_uid, self._account.pw_uid)
            self._dropped = True
