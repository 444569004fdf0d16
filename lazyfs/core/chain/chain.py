"""Proxies and origins of one repository: their health, the order in which they are asked, their history.

Pure and not thread-safe: the caller gives times on one monotonic clock, a source of randomness in [0, 1), and
holds a lock. One Plan per request makes the decisions; the chain is the state that plans share.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lazyfs.core.chain.faults import Fault
from lazyfs.core.chain.hedge import Hedges
from lazyfs.core.chain.member import Member, MemberState
from lazyfs.core.chain.policy import Policy
from lazyfs.core.chain.report import ChainReport, MemberReport


class News(NamedTuple):
    """A change of a member's state, for one log line."""

    member: str
    kind: str
    state: MemberState
    why: str


class Chain:
    """The proxies and origins of a repository, with the outcomes of all requests over them."""

    def __init__(
        self,
        proxies: Sequence[Sequence[str]],
        origins: Sequence[str],
        policy: Policy,
        random: Callable[[], float],
    ) -> None:
        """Takes proxies as parse_proxies returns them, and origins as parse_origins does."""
        self.policy = policy
        self.random = random
        self.groups = [[Member(url, "proxy", policy, random) for url in group] for group in proxies]
        self.origins = [Member(url, "origin", policy, random) for url in origins]
        self.hedges = Hedges(policy)
        self.requests = 0
        self.attempts = 0
        self.failed_requests = 0
        self.healed = 0
        self.faults: Counter[Fault] = Counter()
        self.last_fault: dict[Member, str] = {}
        self.news: list[News] = []
        """Changes of state for the log; their reader empties the list."""
        self.path_failed: dict[tuple[Member, Member], float] = {}
        """The time at which the path from a proxy to an origin last failed."""
        self.probing: set[tuple[Member, Member]] = set()
        """Paths that a request is trying although their proxy or origin is put aside, that is, left alone
        after failures."""
        self._outage: float | None = None
        """The time at which the present outage began; None while there is none."""
        self._outage_seen = 0.0
        self._sweep_at = 0.0
        self._sweeps = 0

    def proxy_order(self, key: str) -> list[Member]:
        """Returns all proxies, group by group, in the order in which a request for the object `key` asks
        them. Rendezvous hashing orders each group: each object has its own first proxy in the group, and if a
        proxy is down, the other proxies of the group share its load."""
        order: list[Member] = []
        for group in self.groups:
            if len(group) == 1:
                order += group
            else:
                order += sorted(group, key=lambda proxy: _weight(proxy.url, key), reverse=True)
        return order

    def origin_order(self, now: float) -> list[Member]:
        """Returns the origins by latency. Origins whose latencies differ little keep their order: when
        another origin comes first, the proxies have to fetch everything again, under other URLs."""
        policy, origins = self.policy, self.origins
        for index in range(1, len(origins)):
            before, behind = origins[index - 1], origins[index]
            if before.latency is None or behind.latency is None:
                continue
            if behind.latency + 0.005 < before.latency * (1 - policy.latency_margin):
                origins[index - 1], origins[index] = behind, before
        if len(origins) > 1 and self.requests % policy.explore_every == 0:
            for origin in origins:
                old = now - origin.measured > policy.latency_age
                if old and origin.state is MemberState.UP:
                    return [origin, *(other for other in origins if other is not origin)]
        return list(origins)

    def first_machines(self, count: int, now: float) -> Counter[str]:
        """Returns the URLs of the proxies or origins that the next `count` requests are likely to go to, each
        with the number of these requests. An object's digest decides, so the numbers are estimates. A proxy
        or origin that is to be tried again after failures counts for one request."""
        found: Counter[str] = Counter()

        def ready(member: Member) -> bool:
            return member.state is MemberState.UP or (member.usable(now) and not found[member.url])

        for number in range(count):
            proxy = next((one for one in self.proxy_order(f"{number} {self.random()}") if ready(one)), None)
            origin = next((one for one in self.origins if ready(one)), None)
            if proxy is not None and origin is not None:
                found[origin.url if proxy.direct else proxy.url] += 1
        return found

    def any_usable(self, now: float) -> bool:
        """Returns True if some path may be tried now."""
        return not all(origin.dead(now) for origin in self.origins) and not all(
            proxy.dead(now) for group in self.groups for proxy in group
        )

    def no_path(self, now: float) -> None:
        """Notes that a request found no usable path. This begins an outage if there is none, or if the last
        such note is too old to show that the earlier outage still lasts."""
        if self._outage is None or self._forgotten(now):
            self._outage = now
            self._sweeps = 0
            self._sweep_at = now
        self._outage_seen = now

    def outage_lasts(self, now: float) -> bool:
        """Returns True if no path has worked for longer than `policy.outage_grace` seconds: requests then
        fail at once."""
        if self._outage is None or now - self._outage < self.policy.outage_grace or self._forgotten(now):
            return False
        self._outage_seen = now
        return True

    def _forgotten(self, now: float) -> bool:
        # longer than a retrying request ever waits between two calls
        return now - self._outage_seen > max(self.policy.outage_grace, 3 * self.policy.pause_max)

    def take_sweep(self, now: float) -> bool:
        """Returns True if the calling request is now to try all paths, even those whose proxy or origin
        failed recently. One request in each interval gets True; for every other request it returns False, and
        that request fails at once."""
        if now < self._sweep_at:
            return False
        wait = min(self.policy.probe_first * 2.0 ** min(self._sweeps, 30), self.policy.probe_max)
        self._sweeps += 1
        self._sweep_at = now + wait * (1 - self.policy.jitter * self.random())
        return True

    def give_sweep_back(self, now: float) -> None:
        """Cancels the last `take_sweep`, because the request that was to try all paths has been given up by
        its caller. The next request may try them at once."""
        self._sweeps = max(self._sweeps - 1, 0)
        self._sweep_at = now

    def path_found(self) -> None:
        """Notes that a path brought the right bytes: the outage, if there was one, is over."""
        self._outage = None

    def tell(self, member: Member) -> None:
        """Adds the member's present state to `news`, for the log."""
        self.news.append(News(member.name, member.kind, member.state, member.why))

    def report(self, now: float) -> ChainReport:
        """Returns a snapshot of the chain's state."""
        members = [(index, proxy) for index, group in enumerate(self.groups) for proxy in group]
        members += list(enumerate(self.origins))
        return ChainReport(
            members=[
                MemberReport(
                    name=member.name,
                    kind=member.kind,
                    group=group,
                    state=member.state.value,
                    why=member.why,
                    for_seconds=max(now - member.changed, 0.0) if member.changed > float("-inf") else 0.0,
                    retry_in=0.0 if member.usable(now) else max(member.retry_at - now, 0.0),
                    answers=member.answers,
                    bytes=member.bytes,
                    latency_ms=None if member.latency is None else member.latency * 1000,
                    faults={fault.value: count for fault, count in member.faults.items()},
                    last_fault=self.last_fault.get(member, ""),
                )
                for group, member in members
            ],
            outage_seconds=0.0 if self._outage is None else max(now - self._outage, 0.0),
            requests=self.requests,
            attempts=self.attempts,
            failed_requests=self.failed_requests,
            hedges=self.hedges.started,
            hedges_won=self.hedges.won,
            healed=self.healed,
            faults={fault.value: count for fault, count in self.faults.items()},
        )


def _weight(url: str, key: str) -> bytes:
    return hashlib.sha256(f"{url} {key}".encode()).digest()
