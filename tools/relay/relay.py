"""The relay's I/O: TCP connections on trio. Each byte is held back until the arrival time that the model
computes."""

import json
import socket
from collections.abc import Awaitable, Callable
from dataclasses import asdict

import trio

from tools.relay.answers import Answers, Waits
from tools.relay.counts import Counts
from tools.relay.model import SEGMENT, Flow, Path
from tools.relay.requests import RequestCounter

READ_BYTES = 64 << 10
"""The largest number of bytes moved at once: 5 ms of a 100 Mbit/s line, so that connections share the line
fairly."""
QUEUE = 512
"""The largest number of deliveries that wait for a receiver that does not read. When it is reached, the
sender must wait, as with a full window."""
EARLY = 0.0005
"""Seconds by which a delivery may be early. epoll sleeps for whole milliseconds, and late deliveries would
add up."""


async def serve(
    handler: Callable[[trio.SocketStream], Awaitable[object]],
    host: str,
    port: int,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Calls `handler` with each connection to a port, until cancelled. Reports the listeners once they
    listen."""
    listeners = await trio.open_tcp_listeners(port, host=host)
    for listener in listeners:
        _cut_segments(listener.socket)
    await trio.serve_listeners(handler, listeners, task_status=task_status)


async def _connected(origin: tuple[str, int]) -> trio.SocketStream:
    """Returns a connection to an IPv4 address. Raises OSError."""
    plain = trio.socket.socket()
    try:
        _cut_segments(plain)
        await plain.connect(origin)
    except BaseException:
        plain.close()
        raise
    return trio.SocketStream(plain)


def _cut_segments(plain: trio.socket.SocketType) -> None:
    """Limits the segments of a connection to SEGMENT bytes, for both ends of the connection. Call it before
    the connection is made.

    The segments of loopback have 64 KiB, as much as a new receiver has room for. Then the end of an answer
    often waited 40 ms until the receiver said that it had room again, which happens on no real line.
    """
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)


def _ignore(data: bytes) -> None:
    """An observer that ignores its events."""


async def pump(
    source: trio.abc.ReceiveStream,
    sink: trio.abc.SendStream,
    flow: Flow,
    count: Callable[[bytes], None],
    delivered: Callable[[bytes], None] = _ignore,
) -> None:
    """Moves bytes in one direction of a connection until the source ends, then closes the sink for sending.
    Calls `count` with bytes when they come from the source, and `delivered` when the sink has taken them."""
    to_deliver, due = trio.open_memory_channel[tuple[float, bytes]](QUEUE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_deliver, due, sink, delivered)
        async with to_deliver:
            while True:
                room = flow.room(trio.current_time())
                if not room:
                    await trio.sleep_until(flow.room_again())
                    continue
                try:
                    data = bytes(await source.receive_some(min(room, READ_BYTES)))
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    data = b""
                arrives = flow.send(trio.current_time(), len(data))
                await to_deliver.send((arrives, data))
                if not data:
                    return
                count(data)


async def _deliver(
    due: trio.MemoryReceiveChannel[tuple[float, bytes]],
    sink: trio.abc.SendStream,
    delivered: Callable[[bytes], None],
) -> None:
    gone = False
    async for arrives, data in due:
        if arrives - trio.current_time() > EARLY:
            await trio.sleep_until(arrives)
        if gone:
            continue  # the receiver has left: the sender's remaining bytes are dropped, as after a reset
        try:
            if data:
                await sink.send_all(data)
                delivered(data)
            elif isinstance(sink, trio.abc.HalfCloseableStream):
                await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            gone = True


class Relay:
    """A relay for any number of forwarded ports, which share one path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts = Counts()
        self._waits = Waits()

    async def forward(
        self, client: trio.abc.HalfCloseableStream, origin: tuple[str, int], connected_at: float | None = None
    ) -> None:
        """Serves one accepted connection until both directions have ended."""
        self.counts.connections += 1
        up, down = self.path.connect(trio.current_time() if connected_at is None else connected_at)
        counter = RequestCounter()
        answers = Answers(self._waits)

        def count_up(data: bytes) -> None:
            self.counts.bytes_up += len(data)
            for head in counter.feed(data):
                self.counts.requests += 1
                answers.request(head)
            self.counts.waits = self._waits.longest

        def count_down(data: bytes) -> None:
            self.counts.bytes_down += len(data)

        try:
            server = await _connected(origin)
        except OSError:
            await client.aclose()
            return
        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(pump, client, server, up, count_up)
            nursery.start_soon(pump, server, client, down, count_down, answers.feed)

    async def tell(self, asker: trio.abc.SendStream) -> None:
        """Answers a connection to the counts port: one line of JSON."""
        async with asker:
            await asker.send_all(json.dumps(asdict(self.counts)).encode() + b"\n")
