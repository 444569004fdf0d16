"""Sections of the service's configuration beside `service` and `registries`.

[listen.harbor]                       # POST /hooks/harbor
kind = "harbor"
registry = "harbor.example"
secret-file = "/etc/lazyfs/harbor.secret"

[notify.chat]
url = "https://chat.example/hooks/123"
secret-file = "/etc/lazyfs/chat.secret"

[[acknowledged]]
failure = "registry.example/physics/old:*"
until = 2026-12-31
by = "anna"

[owners.atlas]
images = 200
size = "500G"
"""

import os
import re
import stat
from datetime import date
from urllib.parse import urlsplit

import msgspec

from lazyfs.core.byte_size import parse_size
from lazyfs.core.errors import UsageError
from lazyfs.core.oci.reference import HUB_HOSTS, parse
from lazyfs.core.webhooks.proofs import KINDS
from lazyfs.core.wishlist.patterns import stars
from lazyfs.sync.acknowledged import Acknowledgement
from lazyfs.sync.listening.push_server import PushSource
from lazyfs.sync.notifier import Address
from lazyfs.sync.quotas import Quota
from lazyfs.sync.report import FAILED, MOVED, PUBLISHED, REMOVED, WAITING

EVENTS = (PUBLISHED, MOVED, REMOVED, FAILED, WAITING)
_FIELD = re.compile(r"[A-Za-z0-9-]{1,64}")
LEAST_MEMORY = 256 << 20
LEAST_SECRET, MOST_SECRET = 16, 4096
"""The smallest and the largest number of characters of a secret. One of fewer than 16 can be guessed by
trying."""


class ListenSettings(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """One sender of webhooks."""

    kind: str
    registry: str
    secret_file: str

    def check(self) -> None:
        """Raises UsageError, which names the field, if a value is invalid."""
        if self.kind not in KINDS:
            raise UsageError(f"kind {self.kind!r} is none of {', '.join(KINDS)}")
        try:
            known = parse(f"{self.registry}/any/image").registry
        except UsageError:
            known = ""
        if known != self.registry and self.registry not in HUB_HOSTS:
            raise UsageError(f"registry {self.registry!r} is no registry's host[:port]")

    def source(self) -> PushSource:
        """Returns the sender with its secret. Raises UsageError."""
        return PushSource(self.kind, self.registry, read_secret(self.secret_file))


class NotifySettings(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """One address that gets the events of runs."""

    url: str
    secret_file: str = ""
    secret_header: str = ""
    events: tuple[str, ...] = (PUBLISHED, MOVED, REMOVED, FAILED)
    private_names: bool = False
    plain_http: bool = False

    def check(self) -> None:
        """Raises UsageError, which names the field, if a value is invalid. The message holds no URL, because
        a URL may be a secret."""
        try:
            parts = urlsplit(self.url)
            _ = parts.port
        except ValueError:
            raise UsageError("url is no address") from None
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise UsageError("url is no https:// address")
        if parts.username is not None:
            raise UsageError("url has an account in it: use secret-file and secret-header")
        if parts.scheme == "http" and not self.plain_http:
            raise UsageError(
                "url is http://, without TLS: write https://, or allow it with plain-http = true"
            )
        for event in self.events:
            if event not in EVENTS:
                raise UsageError(f"events has {event!r}, which is none of {', '.join(EVENTS)}")
        if self.secret_header and not _FIELD.fullmatch(self.secret_header):
            raise UsageError(f"secret-header {self.secret_header!r} is no name of a header field")
        if self.secret_header and not self.secret_file:
            raise UsageError("secret-header without secret-file")

    def address(self, name: str) -> Address:
        """Returns the address with its secret. Raises UsageError."""
        secret = read_secret(self.secret_file) if self.secret_file else ""
        wanted = frozenset(self.events)
        return Address(name, self.url, secret, self.secret_header, wanted, self.private_names)


class AcknowledgedSettings(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """One failure that the operator acknowledges."""

    failure: str
    until: date
    by: str = ""
    reason: str = ""

    def check(self) -> None:
        """Raises UsageError, which names the field, if a value is invalid."""
        self.acknowledgement()

    def acknowledgement(self) -> Acknowledgement:
        """Returns the acknowledgement with its pattern compiled. Raises UsageError."""
        if not self.failure.strip("*"):
            raise UsageError("failure is empty, or * alone: name what fails")
        try:
            return Acknowledgement(self.failure, stars(self.failure), self.until, self.by, self.reason)
        except ValueError as error:
            raise UsageError(f"failure {self.failure!r}: {error}") from None


class OwnerSettings(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """The quota of one owner."""

    images: int | None = None
    size: str | None = None

    def check(self) -> None:
        """Raises UsageError, which names the field, if a value is invalid."""
        self.quota()

    def quota(self) -> Quota:
        """Returns the quota with its size as a number. Raises UsageError."""
        if self.images is not None and self.images < 0:
            raise UsageError(f"images = {self.images} is below 0")
        return Quota(self.images, None if self.size is None else parse_size(self.size, "size"))


class ProfileSettings(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """The settings for recording profiles: whether commands in wishes may be started, and the limits of a
    start."""

    allowed: bool = False
    seconds: float = 120.0
    memory: str = "4G"
    images_per_run: int = 20
    url: str = ""
    """The URL at which the store is served, to mount it from there; needed for a bucket."""
    inherit: bool = True
    """True to use, for a new image, the profile of the last image in the same repository of its registry; for
    this no command is started."""
    guess: bool = False
    """True to guess a profile for a new image that inherits none; for this no command is started."""

    def check(self) -> None:
        """Raises UsageError, which names the field, if a value is invalid."""
        if not 1 <= self.seconds <= 3600:
            raise UsageError(f"seconds = {self.seconds} is not from 1 to 3600")
        if self.memory_bytes < LEAST_MEMORY:
            raise UsageError(f"memory {self.memory!r} is below 256M, which lazyfs run itself may need")
        if not 1 <= self.images_per_run <= 100_000:
            raise UsageError(f"images-per-run = {self.images_per_run} is not from 1 to 100000")

    @property
    def memory_bytes(self) -> int:
        return parse_size(self.memory, "memory")


def read_secret(path: str) -> str:
    """Returns the secret in a file, without the newline at its end. Raises UsageError if the file cannot be
    read, if everybody may read it, or if it is not one line of 16 to 4,096 printable ASCII characters."""
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MOST_SECRET + 2)
    except OSError as error:
        raise UsageError(f"secret {path}: {error.strerror}") from None
    if stat.S_ISREG(mode) and mode & 0o007:
        raise UsageError(f"secret {path}: everybody on this machine may read it: chmod 600 {path}")
    secret = data.removesuffix(b"\n").decode("ascii", "replace")
    if not LEAST_SECRET <= len(secret) <= MOST_SECRET or not (secret.isascii() and secret.isprintable()):
        raise UsageError(
            f"secret {path}: it has to be one line of {LEAST_SECRET} to {MOST_SECRET} printable characters "
            "of ASCII"
        )
    return secret
