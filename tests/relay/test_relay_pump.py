"""The relay's I/O on virtual time: the bytes that come out, their times, and the counts."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing

from tools.relay.model import SEGMENT, Path
from tools.relay.relay import Relay, pump
from tools.relay.relay import serve as relay_server

LINE = 1e12  # wide enough to add no delay


async def _receive_all(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([bytes(piece) async for piece in stream])


async def test_a_byte_arrives_half_a_round_trip_later(autojump_clock: trio.testing.MockClock) -> None:
    sender, source = trio.testing.memory_stream_one_way_pair()
    sink, receiver = trio.testing.memory_stream_one_way_pair()
    up, _ = Path(0.1, LINE).connect(now=trio.current_time() - 0.1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump, source, sink, up, lambda data: None)
        begin = trio.current_time()
        await sender.send_all(b"x")
        assert await receiver.receive_some() == b"x"
        assert trio.current_time() - begin == pytest.approx(0.05, abs=1e-3)
        await sender.aclose()


async def test_a_receiver_that_does_not_read_holds_up_the_sender(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sender, source = trio.testing.memory_stream_one_way_pair()
    sink, _ = trio.testing.lockstep_stream_one_way_pair()  # send_all waits for the reader
    up, _ = Path(0.0, LINE).connect(now=trio.current_time())
    moved = 0

    def count(data: bytes) -> None:
        nonlocal moved
        moved += len(data)

    await sender.send_all(bytes(100 << 20))
    with trio.move_on_after(3600):
        await pump(source, sink, up, count)
    assert 0 < moved < 50 << 20


@asynccontextmanager
async def _relayed(
    relay: Relay, accepted: Callable[[trio.SocketStream], None] = lambda _: None
) -> AsyncIterator[trio.SocketStream]:
    """Yields a connection through the relay to a server that answers every 10 bytes with 3000 bytes. Calls
    `accepted` with the server's end."""

    async def serve(stream: trio.SocketStream) -> None:
        accepted(stream)
        async for piece in stream:
            await stream.send_all(bytes(300 * len(piece)))

    async with trio.open_nursery() as nursery:
        servers = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        origin = ("127.0.0.1", servers[0].socket.getsockname()[1])
        ports = await nursery.start(relay_server, partial(relay.forward, origin=origin), "127.0.0.1", 0)
        stream = await trio.open_tcp_stream("127.0.0.1", ports[0].socket.getsockname()[1])
        async with stream:
            yield stream
        nursery.cancel_scope.cancel()


async def test_an_exchange_over_sockets_is_whole_and_counted() -> None:
    relay = Relay(Path(0.0, 1e9))
    async with _relayed(relay) as stream:
        await stream.send_all(b"GET / \r\n\r\n")
        await stream.send_eof()
        assert await _receive_all(stream) == bytes(3000)
    assert relay.counts.connections == 1
    assert relay.counts.requests == 1
    assert (relay.counts.bytes_up, relay.counts.bytes_down) == (10, 3000)


async def test_client_and_server_have_the_segments_of_a_real_line() -> None:
    """Regression: with those of loopback, a start through the relay often waited 40 ms for the end of a
    chunk. Over the one connection of an older revision it seldom did, so the comparison was wrong."""
    found: list[int] = []

    def note(stream: trio.SocketStream) -> None:
        found.append(stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))

    async with _relayed(Relay(Path(0.0, 1e9)), note) as stream:
        await stream.send_all(b"GET / \r\n\r\n")
        await stream.send_eof()
        await _receive_all(stream)
        note(stream)
    assert len(found) == 2
    assert max(found) <= SEGMENT


async def test_an_origin_that_refuses_ends_the_connection() -> None:
    relay = Relay(Path(0.0, 1e9))
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        origin = unused.getsockname()
    async with trio.open_nursery() as nursery:
        ports = await nursery.start(relay_server, partial(relay.forward, origin=origin), "127.0.0.1", 0)
        async with await trio.open_tcp_stream("127.0.0.1", ports[0].socket.getsockname()[1]) as stream:
            assert await _receive_all(stream) == b""
        nursery.cancel_scope.cancel()
