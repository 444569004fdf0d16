"""Checks the runtime directory, in which daemons and commands find one another."""

import os
import socket
from collections.abc import Iterator

import msgspec

from lazyfs.core.errors import UsageError
from lazyfs.daemon import runtime_directory
from lazyfs.node.findings import Finding, Level
from lazyfs.node.surroundings import Surroundings


class SocketFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts about the runtime directory and the sockets in it."""

    directory: str = "/run/lazyfs"
    fault: str = ""
    """The reason why the directory cannot be used; empty if it can."""
    dead: list[str] = []
    """The sockets of daemons that are gone."""


def gather(_: Surroundings) -> SocketFacts:
    try:
        directory = runtime_directory.directory()
    except UsageError as error:
        return SocketFacts(directory="", fault=str(error))
    sockets = [os.path.join(directory, name) for name in os.listdir(directory) if name.endswith(".sock")]
    return SocketFacts(directory=directory, dead=sorted(filter(_is_dead, sockets)))


def judge(facts: SocketFacts) -> Iterator[Finding]:
    if facts.fault:
        wrong, _, do = facts.fault.rpartition(": ")
        yield Finding(Level.ERROR, wrong or facts.fault, do)
    if facts.dead:
        yield Finding(
            Level.NOTE,
            f"{len(facts.dead)} sockets of daemons that are gone are left in {facts.directory}: "
            f"{', '.join(os.path.basename(path) for path in facts.dead[:5])}",
            "leave them: the next lazyfs mount removes them",
        )


def _is_dead(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.setblocking(False)
        try:
            line.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False
