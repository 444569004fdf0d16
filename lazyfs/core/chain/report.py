"""The chain's state as `lazyfs status` and metrics show it."""

import msgspec


class MemberReport(msgspec.Struct, frozen=True):
    """One proxy or origin."""

    name: str
    """URL without secrets, or DIRECT."""
    kind: str
    """`proxy` or `origin`."""
    group: int
    """Proxies: number of the group in the chain, from 0. Origins: rank in the present order."""
    state: str
    """`up`, `down` or `liar`."""
    why: str
    """The fault because of which requests leave the member alone; empty when it is up."""
    for_seconds: float
    """Seconds in this state; 0 if the state has never changed."""
    retry_in: float
    """Seconds until the member is tried again; 0 when up or due."""
    answers: int
    bytes: int
    """Stored bytes of accepted bodies that came over the member."""
    latency_ms: float | None
    """Origins: smoothed time to the first byte."""
    faults: dict[str, int]
    """Faults seen on attempts over the member, by kind."""
    last_fault: str
    """The latest fault with its path, e.g. `no answer (from http://s1/r)`; kept after recovery."""


class ChainReport(msgspec.Struct, frozen=True):
    """The facts from which an operator sees why reads are slow or fail."""

    members: list[MemberReport]
    outage_seconds: float
    """Seconds for which no path has worked; 0 while a path works."""
    requests: int
    attempts: int
    failed_requests: int
    hedges: int
    hedges_won: int
    healed: int
    """Objects that were fetched correctly after a wrong copy had been refused."""
    faults: dict[str, int]
    """Faults by kind, over all attempts."""
