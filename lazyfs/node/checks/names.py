"""Checks that the name service knows the proxies and origins, and answers soon."""

import concurrent.futures
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec

from lazyfs.node.checks.paths import MOST, hosts
from lazyfs.node.findings import Finding, Level
from lazyfs.node.surroundings import Surroundings

SECONDS = 5.0
"""Timeout of all look-ups together, in seconds."""
SLOW = 2.0
"""Seconds after which an answer counts as slow. A request gives up a connection that takes more than three
seconds, the look-up of the name included."""


class LookedUp(msgspec.Struct, frozen=True):
    """The result of looking one name up."""

    name: str
    seconds: float | None
    """The duration of the look-up in seconds; None if no answer came within SECONDS."""
    error: str = ""


def gather(found: Surroundings) -> list[LookedUp]:
    """Looks all names up side by side, and returns what was found within SECONDS. Threads that hang are not
    waited for; they end with this process."""
    names = hosts(found)[:MOST]
    threads = ThreadPoolExecutor(max(1, len(names)))
    asked = {name: threads.submit(_look_up, name) for name in names}
    concurrent.futures.wait(asked.values(), SECONDS)
    return [one.result() if one.done() else LookedUp(name, None) for name, one in asked.items()]


def judge(facts: list[LookedUp]) -> Iterator[Finding]:
    for one in facts:
        if one.seconds is None:
            yield Finding(
                Level.ERROR,
                f"the name service does not answer for {one.name} in {SECONDS:g} s",
                "mend the nameservers in /etc/resolv.conf, or write the address in place of the name",
            )
        elif one.error:
            yield Finding(
                Level.ERROR,
                f"the name {one.name} is not known: {one.error}",
                f"correct it, or mend the name service (getent hosts {one.name})",
            )
        elif one.seconds > SLOW:
            yield Finding(
                Level.WARNING,
                f"the name service took {one.seconds:.1f} s for {one.name}",
                "take dead nameservers out of /etc/resolv.conf, or run a cache on the node",
            )


def _look_up(name: str) -> LookedUp:
    started = time.monotonic()
    try:
        socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return LookedUp(name, time.monotonic() - started, getattr(error, "strerror", None) or str(error))
    return LookedUp(name, time.monotonic() - started)
