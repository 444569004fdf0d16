"""TCP ports of the loopback interface, each reserved for one caller."""

import os
import socket
from collections import deque

_MOST = 200
"""The largest number of ports that are reserved at one time. The oldest reservations are released when it is
exceeded."""

_kept: deque[int] = deque()
"""Descriptors of the sockets that reserve the ports. Those left are closed when the process ends."""


def free_port() -> int:
    """Returns a port that nothing listens on, reserved for the caller.

    A socket that is bound to the port and does not listen reserves it: no bind to port 0 and no outgoing
    connection of any process gets this port, and connections to it are refused. A server that sets
    SO_REUSEADDR, as all servers here do, can listen on it any number of times. Without this socket, another
    process could take the port before the server listens, or while a test has stopped the server.
    """
    keeper = socket.socket()
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeper.bind(("127.0.0.1", 0))
    port: int = keeper.getsockname()[1]
    _kept.append(keeper.detach())
    if len(_kept) > _MOST:
        os.close(_kept.popleft())
    return port


def free_ports(count: int) -> list[int]:
    """Returns `count` ports, all different."""
    return [free_port() for _ in range(count)]
