"""A grid proxy: the short-lived certificate and key with which a job acts for its user.

A container gets it only on request (`--containerX509`), since whoever can read it can act as the user.
"""

import os
import stat
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from lazyfs.core.errors import UsageError

INSIDE = "/x509/proxy"
"""The proxy's path in a container."""
_CERTIFICATES = "/etc/grid-security/certificates"
_LIMIT = 1 << 20


class GridProxy(NamedTuple):
    """The files that a program needs to act for the user."""

    path: str
    certificates: str | None
    """The directory with the certificates of the grid's certificate authorities; None if this machine has
    none."""

    @property
    def binds(self) -> tuple[str, ...]:
        """The values of --bind for `lazyfs run`."""
        found = [f"{self.path}:{INSIDE}:ro,required"]
        if self.certificates is not None:
            found.append(f"{self.certificates}:{_CERTIFICATES}:ro")
        return tuple(found)

    @property
    def environment(self) -> dict[str, str]:
        return {"X509_USER_PROXY": INSIDE, "X509_CERT_DIR": _CERTIFICATES}


def find_proxy(environment: Mapping[str, str], user: int, now: datetime) -> GridProxy:
    """Returns the user's proxy: the file of X509_USER_PROXY, or /tmp/x509up_uUID.

    Raises UsageError if there is no proxy, if it has expired, if other users could read it, or if another
    user owns it.
    """
    path = os.path.abspath(environment.get("X509_USER_PROXY") or f"/tmp/x509up_u{user}")  # noqa: S108 - of voms
    try:
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UsageError(f"grid proxy {path}: {error.strerror}; make one with voms-proxy-init") from None
    try:
        found = os.fstat(number)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != user or found.st_mode & 0o077:
            raise UsageError(
                f"grid proxy {path}: must be a file of your own that nobody else can read; chmod 0600, or "
                "make one with voms-proxy-init"
            )
        content = os.read(number, _LIMIT)
    finally:
        os.close(number)
    _check_time(path, content, now)
    directory = environment.get("X509_CERT_DIR") or _CERTIFICATES
    return GridProxy(path, directory if os.path.isdir(directory) else None)


def _check_time(path: str, content: bytes, now: datetime) -> None:
    from cryptography import x509

    try:
        end = x509.load_pem_x509_certificates(content)[0].not_valid_after_utc
    except ValueError:
        raise UsageError(f"grid proxy {path}: holds no certificate; make one with voms-proxy-init") from None
    if end <= now:
        raise UsageError(f"grid proxy {path}: expired at {end:%Y-%m-%d %H:%M} UTC; renew it: voms-proxy-init")
