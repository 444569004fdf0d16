"""Checks that each mount answers, can be seen, and works as it was meant to."""

import errno
import os
from collections.abc import Iterator

import msgspec

from lazyfs.node.findings import Finding, Level
from lazyfs.node.probe import LOOK_SECONDS
from lazyfs.node.surroundings import Surroundings


class MountFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts about one mount."""

    mountpoint: str
    number: int | None = 0
    """The errno of statfs, 0 for none; None if no answer came in time."""
    silent: str = ""
    """The reason why the daemon reports no status; empty if it reports one."""
    owner: int | None = 0
    user: int = 0
    """The user who makes the check."""
    covered_by: str = ""
    journal: str = ""
    """The reason why the journal's file lacks inode numbers; empty if it has them all."""
    down: dict[str, str] = {}
    """The proxies and origins that the daemon has stopped asking for some time, each with the fault that was
    the reason. Filled only for a mount whose settings are not known; if they are known, the check of paths
    tries the proxies and origins itself."""


def gather(found: Surroundings) -> list[MountFacts]:
    facts = []
    for one in found.mounts:
        status = one.looked.status
        down = {}
        if status is not None and one.settings is None:
            chains = [repository.chain for repository in status.repositories.values()]
            members = [member for chain in chains if chain is not None for member in chain.members]
            down = {f"{each.kind} {each.name}": each.why for each in members if each.state != "up"}
        facts.append(
            MountFacts(
                mountpoint=one.mount.mountpoint,
                number=one.looked.number,
                silent="" if status is not None or one.looked.foreign else one.looked.reason,
                owner=one.mount.owner,
                user=os.geteuid(),
                covered_by=one.covered_by,
                journal=status.journal if status is not None else "",
                down=down,
            )
        )
    return facts


def judge(facts: list[MountFacts]) -> Iterator[Finding]:
    for one in facts:
        yield from _judge(one)


def _judge(one: MountFacts) -> Iterator[Finding]:
    path = one.mountpoint
    if one.covered_by:
        yield Finding(
            Level.WARNING,
            f"{path} is hidden: {one.covered_by} is mounted over it",
            f"umount {path} (the upper one), or mount it elsewhere",
        )
    elif one.number is None:
        yield Finding(
            Level.ERROR,
            f"{path} hangs: its daemon does not answer in {LOOK_SECONDS:g} s, it is frozen or the machine is",
            f"continue or kill the stopped process (ps -eo pid,stat,cmd), or lazyfs umount {path}",
        )
    elif one.number in (errno.ENOTCONN, errno.ECONNABORTED):
        yield Finding(
            Level.ERROR,
            f"{path} is dead: its daemon was killed ({os.strerror(one.number)})",
            f"lazyfs mount with the same words replaces it; lazyfs umount {path} takes it away",
        )
    elif one.number == errno.EACCES:
        yield Finding(
            Level.WARNING,
            f"{path} is a mount of user {one.owner}, who alone may see into it",
            "have it mounted by root, or by a user on a machine with user_allow_other in /etc/fuse.conf, and "
            "with --permissions open if it is private",
        )
    elif one.number:
        yield Finding(Level.ERROR, f"{path}: {os.strerror(one.number)}", "see its log, or mount it again")
    elif one.owner not in (None, 0, one.user):
        yield Finding(
            Level.NOTE,
            f"{path} is a mount of user {one.owner}, not of root",
            "leave it, if that user may choose what programs read there; else lazyfs umount it as root",
        )
    elif one.silent:
        yield Finding(
            Level.WARNING,
            f"{path} answers, but its daemon tells nothing: {one.silent}",
            "set LAZYFS_RUNTIME_DIR as it was for lazyfs mount; else mount again when no program uses it",
        )
    if one.journal:
        yield Finding(
            Level.WARNING,
            f"{path}: inode numbers are not written down: {one.journal}",
            "make room on the disk of the cache directory, or mend the disk",
        )
    for member, why in one.down.items():
        yield Finding(
            Level.WARNING,
            f"{path}: {member} is put aside: {why}",
            "run lazyfs doctor as the mount's user or root, which tries each path",
        )
