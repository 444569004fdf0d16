"""Computes when bytes arrive over a path with a round-trip time, one bottleneck and TCP's slow start. Has no
I/O and no clock.

All times are seconds on the caller's clock, all sizes are bytes. The path is long and uncongested: there is
no loss, the queue in front of the bottleneck is never full, and all connections are served first come, first
served.
"""

from collections import deque
from dataclasses import dataclass, field

SEGMENT = 1448
"""Payload of an Ethernet frame with TCP timestamps."""
INITIAL_WINDOW = 10 * SEGMENT
"""RFC 6928."""
LARGEST_WINDOW = 6 << 20
"""Linux's default tcp_rmem limit: the largest window that a receiver advertises."""
IDLE_RESTART = 0.2
"""A sender that was idle for a round trip and this many seconds begins with INITIAL_WINDOW again, as in
Linux. The value is Linux's smallest retransmission timeout."""


@dataclass
class Bottleneck:
    """One direction of the path, shared by all connections."""

    bytes_per_second: float
    busy_until: float = 0.0

    def transmit(self, now: float, size: int) -> float:
        """Takes `size` bytes at the time `now`. Returns the time at which the last of them has left the
        bottleneck."""
        self.busy_until = max(now, self.busy_until) + size / self.bytes_per_second
        return self.busy_until


@dataclass
class Flow:
    """One direction of one connection.

    `opened` is the end of the handshake. No byte is sent before it, and none takes part in the bottleneck: if
    it did, bytes of other connections would wait behind it.
    """

    bottleneck: Bottleneck
    round_trip: float
    opened: float = 0.0
    slow_start: bool = True
    window: int = INITIAL_WINDOW
    _unacknowledged: deque[tuple[float, int]] = field(default_factory=deque)
    _in_flight: int = 0
    _last_sent: float = 0.0

    def room(self, now: float) -> int:
        """Returns the number of bytes that may be sent at `now`; 0 before the end of the handshake, and while
        the window is full."""
        if now < self.opened:
            return 0
        while self._unacknowledged and self._unacknowledged[0][0] <= now:
            _, size = self._unacknowledged.popleft()
            self._in_flight -= size
            self.window = min(self.window + size, LARGEST_WINDOW)
        if not self.slow_start:
            return LARGEST_WINDOW - self._in_flight
        if not self._in_flight and now - self._last_sent > self.round_trip + IDLE_RESTART:
            self.window = INITIAL_WINDOW
        return max(self.window - self._in_flight, 0)

    def room_again(self) -> float:
        """Returns the time at which there is room: that of the end of the handshake, or of the next
        acknowledgement. Call it only while `room` is 0."""
        return self._unacknowledged[0][0] if self._unacknowledged else self.opened

    def send(self, now: float, size: int) -> float:
        """Sends `size` bytes, at most `room`. Returns the time at which the last of them arrives at the other
        end."""
        left = self.bottleneck.transmit(now, size)
        self._unacknowledged.append((left + self.round_trip, size))
        self._in_flight += size
        self._last_sent = left
        return left + self.round_trip / 2


@dataclass
class Path:
    """The network between a client and the origin."""

    round_trip: float
    bytes_per_second: float
    slow_start: bool = True
    up: Bottleneck = field(init=False)
    down: Bottleneck = field(init=False)

    def __post_init__(self) -> None:
        self.up = Bottleneck(self.bytes_per_second)
        self.down = Bottleneck(self.bytes_per_second)

    def connect(self, now: float) -> tuple[Flow, Flow]:
        """Opens a connection whose SYN leaves at `now`. Returns its flows: (client to origin, origin to
        client).

        The client may send one round trip later, when the answer to its SYN has come back.
        """
        opened = now + self.round_trip
        return (
            Flow(self.up, self.round_trip, opened, self.slow_start),
            Flow(self.down, self.round_trip, opened - self.round_trip / 2, self.slow_start),
        )
