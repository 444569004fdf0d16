"""The names of the files that connections over TLS need. Importing this module does not import ssl."""

from typing import NamedTuple


class TlsFiles(NamedTuple):
    """The files that an operator names. Without `ca`, the system's CAs are trusted; without `client_cert`, no
    client certificate is sent."""

    ca: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    """The file of the key; None if the key is in `client_cert`."""

    def __bool__(self) -> bool:
        return any(self)
