"""TCP ports of the loopback interface that nobody else gets."""

import os
import socket
from collections import deque

_MOST = 200
"""Ports kept at one time; those taken longest ago are let go."""

_kept: deque[int] = deque()
"""Descriptors. The process's end lets go of those that are left."""


def free_port() -> int:
    """A port that nothing listens on, kept for whom it is given to.

    A socket that is bound to it and does not listen keeps it: no bind to port 0 and no outgoing connection of
    any process is given it, connecting to it is refused, and a server that sets SO_REUSEADDR, as all do, can
    listen on it as often as it likes. A port that is only looked up may be taken before the server listens,
    or while a test has the server dead.
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
    """`count` of them, all different."""
    return [free_port() for _ in range(count)]
