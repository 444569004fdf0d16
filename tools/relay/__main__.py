"""python -m tools.relay --forward 127.0.0.1:8001=127.0.0.1:8000 --rtt-ms 50 --mbit 100

Prints `ready` when all ports are open; ends on SIGINT or SIGTERM. A connection to the counts port is answered
with one line of JSON: connections, requests, bytes_up, bytes_down since the start.
"""

import argparse
import signal
from functools import partial

import trio

from tools.relay.model import Path
from tools.relay.relay import Relay, serve


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def _forward(text: str) -> tuple[tuple[str, int], tuple[str, int]]:
    listen, equals, origin = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT=HOST:PORT")
    return _address(listen), _address(origin)


async def _until_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


async def _main(options: argparse.Namespace) -> None:
    relay = Relay(Path(options.rtt_ms / 1000, options.mbit * 1e6 / 8, slow_start=not options.no_slow_start))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_until_signal, nursery.cancel_scope)
        for (host, port), origin in options.forward:
            await nursery.start(serve, partial(relay.forward, origin=origin), host, port)
        if options.counts:
            host, port = options.counts
            await nursery.start(serve, relay.tell, host, port)
        print("ready", flush=True)


def main() -> None:
    """Reads the command line and relays until a signal."""
    parser = argparse.ArgumentParser(prog="python -m tools.relay", description=__doc__.splitlines()[0])
    parser.add_argument("--forward", type=_forward, action="append", required=True, metavar="LISTEN=ORIGIN")
    parser.add_argument("--rtt-ms", type=float, default=0, help="round-trip time (default 0)")
    parser.add_argument("--mbit", type=float, default=1000, help="bottleneck in 10^6 bit/s, each direction")
    parser.add_argument("--counts", type=_address, metavar="HOST:PORT", help="where the counts are told")
    parser.add_argument("--no-slow-start", action="store_true", help="every window is wide open at once")
    trio.run(_main, parser.parse_args())


if __name__ == "__main__":
    main()
