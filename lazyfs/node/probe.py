"""The health of mounts in one word and one line, for the health checks of a node."""

import errno
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import NamedTuple

from lazyfs.core.byte_size import shown_size
from lazyfs.core.errors import UsageError
from lazyfs.daemon import control_client
from lazyfs.daemon.control_client import NoDaemon
from lazyfs.daemon.status import MountStatus
from lazyfs.system import mountpoint as points
from lazyfs.system.bounded_look import Answer, ask_each, ask_one
from lazyfs.system.mount_table import Mount

LOOK_SECONDS = 3.0
"""Seconds that the filesystem may take to answer statfs. A healthy one takes a millisecond; a machine with
sixteen runnable processes on two cores has been seen to take one second."""
ASK_SECONDS = 1.0
"""Seconds that the daemon may take to answer a request for its status. Monitoring expects an answer within
five seconds: this time and LOOK_SECONDS leave one second for Python's start."""
LONG_WAIT = 60.0
"""Seconds after which a call that still waits for an object causes a warning; by default a read waits 30."""


class Verdict(IntEnum):
    """The exit codes of a Nagios plugin."""

    OK = 0
    WARNING = 1
    """Programs are served, but not with all that was asked for, or they will not be served for long."""
    CRITICAL = 2
    """Programs fail or hang."""
    UNKNOWN = 3
    """The health could not be found out."""


class LookedAt(NamedTuple):
    """The facts about one mount."""

    mountpoint: str
    number: int | None
    """The errno of statfs, 0 for none; None if no answer came in time."""
    status: MountStatus | None
    reason: str
    """The reason why there is no status."""
    foreign: bool = False
    """True if the mount belongs to another user, who alone may ask its daemon."""


class Judgement(NamedTuple):
    """The health of one mount, or of several."""

    verdict: Verdict
    text: str


def probe(mountpoint: str | None) -> Judgement:
    """Returns the health of the mount at a path, or of all mounts of lazyfs. Takes no longer than
    LOOK_SECONDS and ASK_SECONDS together."""
    if mountpoint is None:
        found = [mount for mount in points.mounts() if mount.fstype == points.FSTYPE]
        if not found:
            text = "nothing of lazyfs is mounted; name a mount point to have its absence reported"
            return Judgement(Verdict.UNKNOWN, text)
        return together([judge(one) for one in look(found)])
    try:
        path = points.absolute(mountpoint)
    except UsageError as error:
        return Judgement(Verdict.CRITICAL, str(error))
    mount = _mount_at(path)
    if mount is None:
        return Judgement(Verdict.CRITICAL, f"{path}: no mount of lazyfs is there")
    (looked,) = look([mount])
    return judge(looked)


def judge(found: LookedAt) -> Judgement:
    """Returns the health of one mount."""
    path = found.mountpoint
    if found.number is None:
        return Judgement(Verdict.CRITICAL, f"{path}: does not answer in {LOOK_SECONDS:g} s")
    if found.number in (errno.ENOTCONN, errno.ECONNABORTED):
        return Judgement(Verdict.CRITICAL, f"{path}: its daemon is dead; lazyfs mount replaces it")
    if found.number == errno.EACCES:
        return Judgement(Verdict.UNKNOWN, f"{path}: another user's mount, shown to nobody else")
    if found.number:
        return Judgement(Verdict.CRITICAL, f"{path}: {os.strerror(found.number)}")
    if found.status is None and found.foreign:
        return Judgement(Verdict.OK, f"{path}: answers; only its user may ask for more")
    if found.status is None:
        reason = found.reason.replace(f" for {path}", "").replace(f" of {path}", "")
        return Judgement(Verdict.WARNING, f"{path}: answers, but {reason}")
    troubles = _troubles(found.status)
    if troubles:
        return Judgement(Verdict.WARNING, f"{path}: {'; '.join(troubles)}")
    return Judgement(Verdict.OK, f"{path}: {_well(found.status)}")


def together(found: Sequence[Judgement]) -> Judgement:
    """Returns the worst verdict, with the texts of those mounts that are not well, the worst first."""
    order = (Verdict.CRITICAL, Verdict.WARNING, Verdict.UNKNOWN, Verdict.OK)
    ordered = sorted(found, key=lambda one: order.index(one.verdict))
    well = [one for one in ordered if one.verdict is Verdict.OK]
    if len(well) == 1 or not well:
        return Judgement(ordered[0].verdict, "; ".join(one.text for one in ordered))
    texts = [one.text for one in ordered if one.verdict is not Verdict.OK]
    return Judgement(ordered[0].verdict, "; ".join([*texts, f"{len(well)} mounts are well"]))


def _troubles(status: MountStatus) -> list[str]:
    found = []
    for name, repository in status.repositories.items():
        trust = repository.trust
        if repository.chain is not None and repository.chain.outage_seconds:
            found.append(f"{name}: no path has worked for {repository.chain.outage_seconds:.0f} s")
        if trust.expired:
            expired = datetime.fromtimestamp(trust.expires, UTC)
            found.append(f"{name}: expired on {expired:%Y-%m-%d %H:%M} UTC, no newer revision is shown")
        if trust.problem:
            found.append(f"{name}: {trust.problem}")
    # without a directory no cache is wanted
    if status.cache.directory and status.cache.state.startswith("off:"):
        found.append(f"cache {status.cache.state}")
    if status.journal:
        found.append(f"inode numbers are not written down: {status.journal}")
    for name, waiting in status.waiting.items():
        if waiting.longest > LONG_WAIT:
            found.append(f"{name}: {waiting.calls} calls wait, the longest for {waiting.longest:.0f} s")
    return found


def _well(status: MountStatus) -> str:
    repositories = [f"{name} at revision {one.revision}" for name, one in status.repositories.items()]
    shown = repositories[0] if len(repositories) == 1 else f"{len(repositories)} repositories"
    members = [
        member
        for one in status.repositories.values()
        if one.chain is not None
        for member in one.chain.members
    ]
    down = len({member.name for member in members if member.state != "up"})
    aside = f", {down} of {len({member.name for member in members})} proxies and origins down" if down else ""
    cache = status.cache
    return f"{shown}{aside}, cache {shown_size(cache.charged)} of {shown_size(cache.limit)}"


def _mount_at(path: str) -> Mount | None:
    """Returns the mount of lazyfs at a path; None if there is none. If nothing is mounted there yet, looks
    into the directory, so that an automounter makes the mount, and waits up to LOOK_SECONDS for that."""
    there = points.find(path)
    if there is None or there.fstype == "autofs":
        ask_one(lambda: points.errno_of(os.path.join(path, ".")), LOOK_SECONDS)
        there = points.find(path)
    return there if there is not None and there.fstype == points.FSTYPE else None


def look(mounts: Sequence[Mount]) -> list[LookedAt]:
    """Returns the facts about mounts, which are asked side by side."""
    answers = ask_each(
        [lambda path=mount.mountpoint: points.errno_of(path) for mount in mounts],  # type: ignore[misc]
        LOOK_SECONDS,
        patience=LOOK_SECONDS,
        enough=lambda _: False,
    )
    alive = [mount for mount, answer in zip(mounts, answers, strict=True) if answer.came and not answer.value]
    told = dict(zip(alive, control_client.status_each(alive, ASK_SECONDS), strict=True))
    return [_facts(mount, answer, told.get(mount)) for mount, answer in zip(mounts, answers, strict=True)]


def _facts(mount: Mount, answer: Answer, told: MountStatus | UsageError | None) -> LookedAt:
    number = int(answer.value) if answer.came else None
    if isinstance(told, MountStatus):
        return LookedAt(mount.mountpoint, number, told, "")
    foreign = isinstance(told, NoDaemon) and mount.owner not in (None, os.geteuid())
    return LookedAt(mount.mountpoint, number, None, str(told or ""), foreign)
