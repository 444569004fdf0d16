"""Sections of the service's configuration beside `service` and `registries`.

[listen.harbor]                       # POST /hooks/harbor
kind = "harbor"
registry = "harbor.example"
secret-file = "/etc/lazyfs/harbor.secret"
"""

import os
import stat

import msgspec

from lazyfs.core.errors import UsageError
from lazyfs.core.oci.reference import HUB_HOSTS, parse
from lazyfs.core.webhooks.proofs import KINDS
from lazyfs.sync.listening.push_server import PushSource

LEAST_SECRET, MOST_SECRET = 16, 4096
"""Characters of a secret: fewer than 16 can be tried out."""


class ListenSettings(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """One sender of webhooks."""

    kind: str
    registry: str
    secret_file: str

    def check(self) -> None:
        """Raises UsageError that names the field."""
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


def read_secret(path: str) -> str:
    """Returns the secret in a file, without the newline at its end. Raises UsageError if it cannot be read,
    is readable by everybody, or is no line of 16 to 4,096 printable ASCII characters."""
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
