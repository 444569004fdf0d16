"""Checks this machine's clock against those of the origins, and the expiry of the signed metadata that the
origins have."""

from collections.abc import Iterator
from datetime import UTC, datetime

from lazyfs.node.checks.paths import Way, offsets
from lazyfs.node.findings import Finding, Level

MOST_APART = 120.0
"""The largest difference between a server's clock and this machine's, in seconds, that is no fault.
Certificates and signatures tolerate a difference of minutes."""


def judge(facts: list[Way]) -> Iterator[Finding]:
    apart = offsets(facts)
    nearest = min(apart, key=abs, default=0.0)  # one server's clock may be the wrong one
    if abs(nearest) > MOST_APART:
        side = "behind" if nearest > 0 else "ahead of"
        yield Finding(
            Level.ERROR,
            f"this machine's clock is {abs(nearest):.0f} s {side} the clocks of the servers",
            "set it (chronyc makestep, or timedatectl set-ntp true)",
        )
    for origin in dict.fromkeys(way.origin for way in facts):
        stated = [way for way in facts if way.origin == origin and way.expires is not None]
        newest = max((way.expires or 0.0 for way in stated), default=0.0)
        if stated and newest <= stated[0].asked + nearest:
            expired = datetime.fromtimestamp(newest, UTC)
            yield Finding(
                Level.ERROR,
                f"origin {origin}: the signature that lies there expired on {expired:%Y-%m-%d %H:%M} UTC",
                "have the publisher run lazyfs repo resign STORE, from cron",
            )
