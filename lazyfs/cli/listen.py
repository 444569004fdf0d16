"""`lazyfs listen`: takes webhooks of registries, and publishes the pushed images that are wished."""

import signal
import threading
import time

import click

from lazyfs.cli.listen_option import listen_option
from lazyfs.cli.say import say
from lazyfs.cli.store_options import keys_option
from lazyfs.cli.sync import say_progress, show_report
from lazyfs.core.errors import UsageError
from lazyfs.core.webhooks.pushes import Push
from lazyfs.sync.failures import failure_of
from lazyfs.sync.listening.push_queue import PushQueue
from lazyfs.sync.listening.push_server import PATH, PushServer
from lazyfs.sync.service_runs import ServiceRuns
from lazyfs.sync.settings import read_settings
from lazyfs.sync.state import Busy
from lazyfs.system.listening_server import parse_address

SETTLE = 2.0
"""Seconds to wait after the first push, so that its run also takes the tags and images pushed right after
it."""
LOOK = 3600.0
"""The longest single wait for a push, in seconds; another wait follows."""
PAUSE, TRIES = 60.0, 5
"""Seconds between two tries of the same pushes, and the number of tries. If all fail, the next full run
publishes the images."""


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="WISHLIST... STORE")
@click.option(
    "--config", "configuration", metavar="FILE", required=True, help="The service's configuration (TOML)."
)
@listen_option(8099)
@keys_option
@click.option(
    "--status-dir", metavar="DIR", help="What runs remember [default: below ~/.local/state/lazyfs]."
)
def command(
    words: tuple[str, ...], configuration: str, listen: str, keys: str | None, status_dir: str | None
) -> None:
    """Take webhooks of registries, and publish the pushed images that a WISHLIST wishes, until ctrl-C.

    The configuration names each sender in a section [listen.NAME] with kind (docker, harbor, gitlab, github),
    registry and secret-file; the sender's webhooks have to go to /hooks/NAME. The registry itself is asked
    for the image that a pushed tag names. No image is removed from the tree: `lazyfs sync` does that, and
    should still run every night.

    \b
    Example:
      lazyfs listen wishlist.yaml /srv/unpacked --config service.toml --status-dir /var/lib/lazyfs/status
    """
    *names, store = words
    if not names:
        raise click.UsageError("give at least one WISHLIST, then the STORE")
    settings = read_settings(configuration)
    if not settings.listen:
        raise UsageError(f"configuration {configuration}: it has no sender: write a section [listen.NAME]")
    sources = {name: one.source() for name, one in settings.listen.items()}
    runs = ServiceRuns(store, keys, settings, status_dir, say_progress)
    queue = PushQueue()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with PushServer(parse_address(listen), sources, queue, time.time, told=_tell).running() as server:
        say(f"listening at {server.url}{PATH}NAME for {', '.join(sources)} (ctrl-C ends)")
        try:
            while True:
                if pushes := queue.take(LOOK, lambda: time.sleep(SETTLE)):
                    _run(runs, names, pushes)
        except KeyboardInterrupt:
            say("ended")


_telling = threading.Lock()


def _tell(name: str, status: int) -> None:
    with _telling:
        say(f"{name or 'a request'}: {int(status)}", err=True)


def _run(runs: ServiceRuns, names: list[str], pushes: list[Push]) -> None:
    """Makes a run for pushes, after waiting for any other run to end; retries if the run fails. `names`: the
    paths and addresses of the wishlists."""
    tries = 0
    while tries < TRIES:
        try:
            report = runs.take(names, pushes, wait=PAUSE)
        except Busy:
            continue  # it may have passed by what was pushed
        except Exception as error:  # noqa: BLE001 - the daemon goes on
            tries += 1
            say(f"lazyfs: {failure_of(error).reason} (try {tries} of {TRIES})", err=True)
            if tries < TRIES:
                time.sleep(PAUSE)
        else:
            show_report(runs.name, report, as_json=False)
            return
