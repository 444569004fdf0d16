"""The address of a mount's metrics, checked before the mount answers, so that the operator sees an error."""

import socket
from typing import NamedTuple

from lazyfs.core.digits import natural
from lazyfs.core.errors import UsageError


class Address(NamedTuple):
    """The address that a server listens on."""

    host: str
    port: int


def address_of(listen: str) -> Address:
    """Returns the address that HOST:PORT states. Raises UsageError."""
    host, _, text = listen.rpartition(":")
    port = natural(text)
    if port is None or port > 65535:
        raise UsageError(f"--metrics {listen[:100]}: no port from 0 to 65535; give HOST:PORT")
    return Address(host or "127.0.0.1", port)


def check_free(listen: str) -> None:
    """Raises UsageError unless a server can listen at this address now. `listen`: HOST:PORT."""
    address = address_of(listen)
    try:
        socket.create_server(address).close()
    except (ValueError, OSError, OverflowError) as error:
        raise UsageError(f"--metrics {listen}: {error}; give HOST:PORT") from None
