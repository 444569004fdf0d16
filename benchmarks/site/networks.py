"""Workers in network namespaces of their own, on one bridge with the servers of a site."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

ADDRESS: Final = "10.213.77.1"
"""Address of the bridge, at which the servers listen."""


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def _bridge(name: str) -> Iterator[None]:
    _ip("link", "add", name, "type", "bridge")
    try:
        _ip("address", "add", f"{ADDRESS}/24", "dev", name)
        _ip("link", "set", name, "up")
        yield
    finally:
        _ip("link", "delete", name)


@contextmanager
def _namespace(name: str, bridge: str, number: int) -> Iterator[str]:
    outside, inside = f"{bridge}o{number}", f"{bridge}i{number}"
    _ip("netns", "add", name)
    try:
        _ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", name)
        _ip("link", "set", outside, "master", bridge, "up")
        _ip("-n", name, "address", "add", f"{ADDRESS.rpartition('.')[0]}.{number + 2}/24", "dev", inside)
        _ip("-n", name, "link", "set", inside, "up")
        _ip("-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        _ip("netns", "delete", name)


@contextmanager
def worker_networks(count: int) -> Iterator[list[str]]:
    """Makes a bridge and `count` namespaces that reach it; yields the namespaces' names. Needs root."""
    bridge = f"lf{os.getpid() % 100000}"
    with ExitStack() as stack:
        stack.enter_context(_bridge(bridge))
        yield [
            stack.enter_context(_namespace(f"{bridge}w{number}", bridge, number)) for number in range(count)
        ]


def inside(namespace: str, command: Sequence[str]) -> list[str]:
    """Returns a command that runs in a network namespace, with the mounts of the caller."""
    return ["nsenter", f"--net=/run/netns/{namespace}", *command]
