"""`lazyfs collect`: takes workers' reports of the files that programs read at their start, and publishes
profiles made from them."""

import os
import signal
import ssl
import threading
import time
from datetime import UTC, datetime

import click

from lazyfs.cli.listen_option import listen_option
from lazyfs.cli.say import say
from lazyfs.core.durations import parse_duration
from lazyfs.core.errors import LazyfsError, UsageError
from lazyfs.repository.commit import read_committed
from lazyfs.repository.delegation import delegated_keys
from lazyfs.repository.keys import Keys, default_directory, load
from lazyfs.store import Store, open_store
from lazyfs.sync.collecting.collector import ReportCollector
from lazyfs.sync.collecting.publishing import LEAST_STARTS, ProfilePublisher
from lazyfs.sync.collecting.report_server import PATH, ReportServer
from lazyfs.sync.collecting.reporters import Reporters, read_tokens
from lazyfs.sync.status_directory import default_status_directory
from lazyfs.system.listening_server import parse_address


@click.command()
@click.argument("store")
@listen_option(8098)
@click.option(
    "--tokens", metavar="FILE", help="Who may report: lines NAME TOKEN, readable by this user only."
)
@click.option("--tls-cert", metavar="FILE", help="Certificate (PEM) of this server, for https.")
@click.option("--tls-key", metavar="FILE", help="Its key [default: in the same file].")
@click.option("--client-ca", metavar="FILE", help="Who bears a certificate of this CA (PEM) may report too.")
@click.option(
    "--keys",
    metavar="DIR",
    help="Directory of the delegated key [default: ~/.config/lazyfs/keys/NAME.profiles].",
)
@click.option(
    "--least",
    default=LEAST_STARTS,
    show_default=True,
    type=click.IntRange(1),
    help="Fewest reporters of a program for a profile of it.",
)
@click.option(
    "--interval", default="10m", show_default=True, metavar="TIME", help="Time between two publications."
)
@click.option("--state", metavar="DIR", help="What was reported [default: below ~/.local/state/lazyfs].")
def command(
    store: str,
    listen: str,
    tokens: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    client_ca: str | None,
    keys: str | None,
    least: int,
    interval: str,
    state: str | None,
) -> None:
    """Take reports of what programs read at their start, and publish profiles for STORE, until ctrl-C.

    Mounts with `report` in [profile] of their configuration send reports to /reports. A program's profile
    lists what at least a third of its reported starts have read. The key signs profiles and nothing else:
    make it with `lazyfs repo delegate`.

    \b
    Example:
      lazyfs collect /srv/unpacked --tokens /etc/lazyfs/reporters --keys /etc/lazyfs/profiles-key
    """
    every = parse_duration(interval, "--interval")
    if tokens is None and client_ca is None:
        raise UsageError("give --tokens FILE or --client-ca FILE: who may report?")
    opened = open_store(store)
    name, loaded = _delegated(opened, keys)
    tls = _tls(tls_cert, tls_key, client_ca)
    collector = ReportCollector(
        opened,
        ProfilePublisher(opened, loaded, lambda: datetime.now(UTC), least),
        reporters := Reporters(read_tokens(tokens) if tokens else {}),
        state or os.path.join(default_status_directory(name), "collect"),
        time.time,
    )
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with ReportServer(
        parse_address(listen),
        reporters.identify,
        collector.may_report,
        collector.take,
        collector.refused,
        tls=tls,
    ).running() as server:
        say(f"collecting at {server.url}{PATH} for {name} (ctrl-C ends)")
        while not ended.wait(every):
            _publish(collector)
    _publish(collector)
    counted = ", ".join(f"{count} {outcome}" for outcome, count in sorted(collector.outcomes().items()))
    say(f"ended; reports: {counted or 'none'}")


def _publish(collector: ReportCollector) -> None:
    """Publishes the profiles that are made from the reports received so far. Prints a LazyfsError instead of
    raising it: the next publication tries again."""
    try:
        done = collector.publish()
    except LazyfsError as error:
        say(f"lazyfs: {error}", err=True)
        return
    for fault in done.faults:
        say(f"lazyfs: {fault}: find what is damaged with lazyfs check", err=True)
    if done.changed:
        say(f"published profiles of {done.images} images, {done.made} of them new")


def _delegated(store: Store, directory: str | None) -> tuple[str, Keys]:
    """Returns the repository's name, and the key that can sign profiles (`lazyfs repo delegate`). Raises
    UsageError if there is no such key."""
    committed = read_committed(store)
    name = committed.revision.name
    loaded = load(directory or default_directory(f"{name}.profiles"))
    if not any(loaded.of(key.keyid) for key in delegated_keys(committed.proven.targets)):
        raise UsageError(
            f"no key in --keys may sign profiles of {name}: make one with lazyfs repo delegate STORE --to DIR"
        )
    return name, loaded


def _tls(certificate: str | None, key: str | None, client_ca: str | None) -> ssl.SSLContext | None:
    if certificate is None:
        if client_ca is not None or key is not None:
            raise UsageError("--client-ca and --tls-key need --tls-cert: certificates are shown over https")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:
        raise UsageError(f"--tls-cert {certificate}: {error}") from None
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except (OSError, ValueError) as error:
            raise UsageError(f"--client-ca {client_ca}: {error}") from None
        context.verify_mode = ssl.CERT_OPTIONAL  # bearers of a token need none
    return context
