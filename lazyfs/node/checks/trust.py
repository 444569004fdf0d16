"""Checks that the trust of mounts is valid, and for how long."""

import time
from collections.abc import Iterator

import msgspec

from lazyfs.core.moments import minute
from lazyfs.node.findings import Finding, Level
from lazyfs.node.surroundings import Surroundings

SOON = 86_400.0
"""A signature is late if it expires within this many seconds. Publishers renew a signature of seven days
every day or so: one with less than a day left was forgotten."""
AHEAD = 300.0
"""The largest difference of clocks, in seconds, that is no fault."""


class TrustFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts about the trust in one repository of a mount. Times are seconds since 1970."""

    repository: str
    now: float
    expires: float
    published: float = 0
    looked: str = ""
    """The reason why the last look for a newer revision failed; empty if it did not."""
    problem: str = ""
    """The reason why the trusted state could not be read or written; empty if it could."""


def gather(found: Surroundings) -> list[TrustFacts]:
    return [
        TrustFacts(
            repository=f"{name} at {one.mount.mountpoint}",
            now=time.time(),
            expires=repository.trust.expires,
            published=repository.published,
            looked=repository.trust.error,
            problem=repository.trust.problem,
        )
        for one in found.mounts
        if one.looked.status is not None
        for name, repository in one.looked.status.repositories.items()
    ]


def judge(facts: list[TrustFacts]) -> Iterator[Finding]:
    for one in facts:
        left = one.expires - one.now
        expires = minute(one.expires)
        if left <= 0:
            yield Finding(
                Level.ERROR,
                f"{one.repository}: its signature expired on {expires}; no newer revision is taken",
                "have the publisher run lazyfs repo resign STORE, from cron; or set the clock",
            )
        elif left < SOON:
            yield Finding(
                Level.WARNING,
                f"{one.repository}: its signature expires soon, on {expires}",
                "have the publisher run lazyfs repo resign STORE, from cron",
            )
        if one.published > one.now + AHEAD:
            yield Finding(
                Level.ERROR,
                f"{one.repository}: its revision is from the future; this machine's clock is behind",
                "set the clock (chronyc makestep, or timedatectl set-ntp true)",
            )
        if one.problem:
            yield Finding(
                Level.WARNING,
                f"{one.repository}: what is trusted cannot be kept: {one.problem}",
                "mend the cache directory's disk or owner, or the next mount needs --trust again",
            )
        if one.looked and left > 0:
            yield Finding(
                Level.WARNING,
                f"{one.repository}: no newer revision could be looked for: {one.looked}",
                "mend the path named; lazyfs refresh looks again at once",
            )
