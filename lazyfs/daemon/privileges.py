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
        """Makes the directory if need be, the user's. Raises UsageError."""
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            owner = os.stat(directory).st_uid
            if owner not in (os.geteuid(), self._account.pw_uid if self._account else os.geteuid()):
                raise UsageError(
                    f"cache directory {directory}: belongs to user {owner}, who could put anything into it; "
                    f"give another with --cache, or change its owner"
                )
            if self._account:
                os.chown(directory, self._account.pw_uid, self._account.pw_gid)
            if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(13, "Permission denied")
        except OSError as error:
            raise UsageError(
                f"cache directory {directory}: {error.strerror}; give another with --cache"
            ) from None

    def lower(self) -> None:
        """The user's ids in effect, root's kept for `raised`.

        The real ids are the user's from here on: the mount is made in their name, so that the daemon can take
        it away after `drop`.
        """
        if self._account and not self._dropped:
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
