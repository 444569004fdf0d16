"""`lazyfs serve`: a store over HTTP, from one machine."""

import signal
import threading
from contextlib import ExitStack
from typing import TextIO

import click

from lazyfs.cli.listen_option import listen_option
from lazyfs.cli.say import say
from lazyfs.core.printable import escaped
from lazyfs.store.origin_server import Origin
from lazyfs.store.request_counters import Served
from lazyfs.system.listening_server import parse_address


@click.command()
@click.argument("store")
@listen_option(8000)
@click.option(
    "--access-log",
    type=click.File("a", lazy=False),
    metavar="FILE",
    help="One line for each request: method, path, status, body bytes ('-': standard output).",
)
def command(store: str, listen: str, access_log: TextIO | None) -> None:
    """Serve the directory STORE over HTTP, until ctrl-C.

    For one machine or a trial; a site uses nginx instead.

    \b
    Example:
      lazyfs serve /srv/unpacked --listen 0.0.0.0:8000
    """
    mutex = threading.Lock()

    def log(served: Served) -> None:
        with mutex:
            print(escaped(" ".join(map(str, served))), file=access_log, flush=True)

    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before the threads start, because they inherit the mask
    with ExitStack() as stack:
        origin = stack.enter_context(
            Origin(store, *parse_address(listen), log if access_log else None).running()
        )
        say(f"serving {origin.store} at {origin.url} (ctrl-C ends)")
        signal.sigwait(ends)
    counters = origin.counters
    say(f"served {counters.requests()} requests, {counters.bytes()} bytes")
