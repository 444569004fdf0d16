"""The member to blame for the failures of one round: a proxy, an origin, or none yet.

A single failure says little: the proxy or the origin may have caused it. When a path works that shares one
member with a failed path, the other member of the failed path is to blame. If no path works, an origin is to
blame if it failed over two proxies, or if a proxy itself reports that the origin does not work; otherwise
both proxy and origin are. docs/chain.md states the rules for operators.
"""

from typing import NamedTuple

from lazyfs.core.chain.chain import Chain
from lazyfs.core.chain.faults import CONTENT, Fault
from lazyfs.core.chain.member import Member

PROXY_SAYS = frozenset({Fault.UNAVAILABLE, Fault.SERVER_ERROR, Fault.THROTTLED})
"""Faults by which a working proxy, or the origin itself, reports that the origin does not work."""


class Route(NamedTuple):
    """The path of the next attempt of a request: a proxy (or DIRECT) and an origin."""

    proxy: Member
    origin: Member
    no_cache: bool
    silence: float
    """Seconds to wait for a byte on this path; after that another path is more likely to be fast."""
    on_trial: tuple[Member, ...]
    """The proxy or origin, or both, that this attempt tries again for the first time since they failed or
    served wrong bytes."""
    out_of_turn: bool
    """True if the proxy or the origin of this path failed or served wrong bytes and is not due for another
    trial. Such a path is tried if no path of two usable members has worked."""


class Failure(NamedTuple):
    """One attempt that brought no accepted bytes."""

    route: Route
    fault: Fault
    started: float
    said: str
    """A description of the failure, for the log and for `lazyfs status`."""
    retry_after: float | None
    by_origin: bool


class RoundFailures:
    """The failures of the present round, for which no member has been blamed yet."""

    def __init__(self, chain: Chain, absent: frozenset[Fault]) -> None:
        """`absent`: faults which mean that the file is missing; they do not count against the member that
        reports them."""
        self._chain = chain
        self._absent = absent
        self.items: list[Failure] = []

    def add(self, failure: Failure, now: float) -> None:
        """Notes a failed attempt. A member for which the attempt was a trial is blamed at once."""
        self.items.append(failure)
        route, fault = failure.route, failure.fault
        if fault in CONTENT | self._absent:
            return
        for member in route.on_trial:
            if member is route.origin or route.origin not in route.on_trial or fault not in PROXY_SAYS:
                self.blame(member, failure, now)

    def settle(self, route: Route, now: float) -> None:
        """Notes that `route` has worked. Blames the other member of each failed path that shares one member
        with `route`. If the path of `route` itself served wrong bytes before, blames its proxy, or its origin
        if it has no proxy."""
        if any(failure.fault in CONTENT for failure in self.items):
            self._chain.healed += 1
        guilty: dict[Member, Failure] = {}
        for failure in self.items:
            proxy, origin = failure.route.proxy, failure.route.origin
            if origin is route.origin and proxy is not route.proxy:
                guilty[proxy] = failure
            elif proxy is route.proxy and origin is not route.origin:
                guilty[origin] = failure
            elif origin is route.origin and failure.fault in CONTENT:
                # the same path worked past its caches: the cached copy was bad
                guilty[origin if proxy.direct else proxy] = failure
        for member, failure in guilty.items():
            self.blame(member, failure, now)
        self.items.clear()

    def end_round(self, now: float) -> bool:
        """Decides which members are to blame, because no path has worked. Returns True if a proxy reported
        that an origin does not work."""
        suspects = [failure for failure in self.items if failure.fault not in CONTENT | self._absent]
        for failure in suspects:
            proxy, origin = failure.route.proxy, failure.route.origin
            ways = {other.route.proxy for other in suspects if other.route.origin is origin}
            self.blame(origin, failure, now, proven=False)
            passed_on = failure.by_origin or failure.fault in PROXY_SAYS
            if len(ways) == 1 and not proxy.direct and not passed_on:
                self.blame(proxy, failure, now, proven=False)
        spoken_for = any(failure.fault in PROXY_SAYS for failure in suspects)
        self.items.clear()
        return spoken_for

    def blame(self, member: Member, failure: Failure, now: float, *, proven: bool = True) -> None:
        """Counts a failure against `member`. `proven`: False if another member may be to blame."""
        other = failure.route.proxy if member is failure.route.origin else failure.route.origin
        why = f"{failure.said} ({'over' if member.kind == 'origin' else 'from'} {other.name})"
        if failure.fault in CONTENT or (failure.fault is Fault.MISSING and member.kind == "proxy"):
            news = not member.direct and member.lied(why, now)
        elif failure.fault is Fault.MISSING:
            return  # a replica that lags behind still serves its other files rightly
        else:
            news = member.blame(why, failure.started, now, stay_away=failure.retry_after, proven=proven)
        if news:
            self._chain.tell(member)
