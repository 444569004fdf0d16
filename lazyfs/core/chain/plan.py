"""One request's path through the chain: takes outcomes and times, returns the next attempt.

A *path* is a proxy (or DIRECT) and an origin, its two *members*. A *round* is one pass over all paths. A
member that has failed, or served wrong bytes too often, is *put aside*: it is left alone for a time. The
rules, which docs/chain.md states for operators:

- The first path is the first origin over the proxy that rendezvous hashing gives for the object, in the first
  group that has a usable proxy. After a failure the next origin is asked through the same proxy; a proxy that
  fails with two origins, or that cannot be connected to, is given up for the next proxy.
- After wrong bytes or a 404, all further attempts of the request go past caches.
- When a path works that shares one member with a failed path, the other member of the failed path is blamed.
  If none works, an origin is blamed if it failed over two proxies, or if a proxy itself reports that the
  origin does not work; otherwise proxy and origin both are.
- When every usable path has been tried, the paths of members put aside are tried too; then comes a pause, and
  the next round.
- When no path has worked for longer than `Policy.outage_grace`, requests fail at once; one of them, at
  intervals, tries all paths first (a *sweep*).
- A path with a fault that another try cannot change (an untrusted certificate, a refused CONNECT) is not
  tried again by the request for `Policy.probe_max`. If all paths have ended so within `Policy.probe_first`,
  the request ends at once; what was seen before that may be mended.
- A request ends with bytes, at its deadline, or when every path says 404 or wrong bytes, or can only fail
  again. Where a missing file is a valid answer, so is 403 on every path: a bucket that may not be listed
  answers 403 for a missing file. So is a longer body than was asked for: only a profile may have stated its
  size, and no server is at fault for that.
"""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from lazyfs.core.chain.blame import Failure, RoundFailures, Route
from lazyfs.core.chain.chain import Chain
from lazyfs.core.chain.faults import CERTAIN, CERTIFICATE, CONTENT, PEER, AttemptFailed, Fault
from lazyfs.core.chain.member import Member, MemberState
from lazyfs.core.errors import BadData, DeadlineExceeded, LazyfsError, NotFound, Outage

_MISSING = frozenset({Fault.MISSING})
_MAY_BE_MISSING = frozenset({Fault.MISSING, Fault.DENIED, Fault.TOO_LONG})


class Pause(NamedTuple):
    """No path may be tried before this time."""

    until: float


class GiveUp(NamedTuple):
    """The end of a request without bytes: the exception to raise."""

    error: LazyfsError


class Plan:
    """The state of one request. For every Route that `next` or `hedge` has returned, the caller calls exactly
    one of `succeeded`, `failed` and `abandoned`. If the request ends with neither bytes nor GiveUp, the
    caller calls `left`."""

    def __init__(
        self, chain: Chain, path: str, now: float, deadline: float, *, no_cache: bool, may_be_missing: bool
    ) -> None:
        chain.requests += 1
        chain.hedges.request()
        self._chain = chain
        self._path = path
        self._deadline = deadline
        self._no_cache = no_cache
        self._may_be_missing = may_be_missing
        self._absent = _MAY_BE_MISSING if may_be_missing else _MISSING
        """Faults which mean that the file is missing; they do not count against the member that reports
        them."""
        self._proxies = chain.proxy_order(path)
        self._origins = chain.origin_order(now)
        self._tried: set[tuple[Member, Member, bool]] = set()
        self._failures = RoundFailures(chain, self._absent)
        self._hopeless: dict[tuple[Member, Member], float] = {}
        """Paths that can only fail again, each with the time until which that is believed."""
        self._unreachable: set[Member] = set()
        self._sweeping = False
        """True if this request sweeps: it tries every path while the other requests fail at once."""
        self._rounds = 0
        self._final: LazyfsError | None = None
        self._words: dict[str, None] = {}
        """The failures with their paths, for the error's text."""

    def next(self, now: float) -> Route | Pause | GiveUp:
        """Returns the path of the next attempt, the time until which to pause, or the exception that ends the
        request."""
        if self._final is not None:
            return self._give_up(self._final)
        if now >= self._deadline:
            self._end_round(now)
            return self._give_up(DeadlineExceeded(self._text("not here by the deadline")))
        chain = self._chain
        if not self._sweeping and chain.outage_lasts(now):
            self._end_round(now)
            if not chain.take_sweep(now):
                return self._give_up(Outage(self._text("every path is down")))
            self._sweeping = self._no_cache = True
        route = self._pick(now, self._whatever if self._sweeping else self._in_turn)
        if route is not None:
            return route
        if not self._sweeping:
            if not chain.any_usable(now):
                chain.no_path(now)
            route = self._pick(now, self._out_of_turn)
            if route is not None:
                return route
        verdict = self._verdict(now)
        self._end_round(now)
        if verdict is not None:
            return self._give_up(verdict)
        if self._sweeping:
            return self._give_up(Outage(self._text("every path is down")))
        policy = self._chain.policy
        pause = min(policy.pause * 2.0 ** min(self._rounds, 30), policy.pause_max)
        self._rounds += 1
        return Pause(min(now + pause * (1 - policy.jitter * self._chain.random()), self._deadline))

    def hedge(self, now: float, beside: Route) -> Route | None:
        """Returns a second path beside the slow path `beside`; None if the budget does not allow it, or if no
        other proxy or origin is up."""
        for proxy in self._proxies:
            for origin in self._origins:
                if proxy is beside.proxy and (proxy.direct is False or origin is beside.origin):
                    continue
                if self._is_hopeless(proxy, origin, now):
                    continue
                key = (proxy, origin, self._no_cache)
                if proxy.state is origin.state is MemberState.UP and key not in self._tried:
                    if not self._chain.hedges.take():
                        return None
                    self._tried.add(key)
                    self._chain.attempts += 1
                    return Route(proxy, origin, self._no_cache, self._deadline - now, (), False)
        return None

    def succeeded(
        self, route: Route, now: float, *, size: int, first_byte: float, elapsed: float, from_cache: bool
    ) -> None:
        """Notes that the attempt brought the right bytes, in a body of `size` bytes. `first_byte`, `elapsed`:
        seconds to the first byte and to the last. `from_cache`: True if a proxy answered from its cache."""
        self._return(route)
        route.proxy.bytes += size
        route.origin.bytes += size
        self._chain.hedges.took(elapsed)
        if not from_cache:
            route.origin.measure(first_byte, now)
        self._works(route, now)
        self._failures.settle(route, now)

    def failed(self, route: Route, error: AttemptFailed, started: float, now: float) -> None:
        """Notes that the attempt that began at `started` brought nothing, or bytes that were not accepted."""
        self._return(route)
        chain, proxy, origin, fault = self._chain, route.proxy, route.origin, error.fault
        said = str(error) if fault in CERTAIN else fault.value
        if fault is Fault.MISSING and self._may_be_missing:
            self._works(route, now)
            self._final = NotFound(f"{self._path}: {origin.name} does not have it")
            return
        self._note(route, fault, said)
        self._words[f"{said} from {origin.name} over {proxy.name}"] = None
        if fault in CONTENT or fault is Fault.MISSING:
            self._no_cache = True
        chain.path_failed[proxy, origin] = now
        failure = Failure(route, fault, started, said, error.retry_after, error.by_origin)
        by_proxy = fault in PEER and not proxy.direct and not error.by_origin
        if fault in CERTAIN:
            others = chain.origins if by_proxy else [origin]
            self._hopeless |= {(proxy, other): now + chain.policy.probe_max for other in others}
        else:
            self._hopeless.pop((proxy, origin), None)
        if by_proxy:
            for other in chain.origins:
                chain.path_failed[proxy, other] = now
            self._unreachable.add(proxy)
            self._failures.blame(proxy, failure, now)
        elif fault in CERTIFICATE:
            self._failures.blame(origin, failure, now)
        else:
            self._failures.add(failure, now)

    def abandoned(self, route: Route, *, overtaken: bool = False) -> None:
        """Notes that the attempt was cancelled because its request was left, or because its rival was faster
        (`overtaken`). `lazyfs status` counts overtaken attempts, but no member is blamed: the path is slow,
        not broken."""
        self._return(route)
        if overtaken:
            self._note(route, Fault.OVERTAKEN, Fault.OVERTAKEN.value)

    def left(self, now: float) -> None:
        """Notes that the caller has gone before there was an answer."""
        if self._sweeping and self._final is None:
            self._chain.give_sweep_back(now)

    def _note(self, route: Route, fault: Fault, said: str) -> None:
        chain, proxy, origin = self._chain, route.proxy, route.origin
        chain.faults[fault] += 1
        proxy.faults[fault] += 1
        origin.faults[fault] += 1
        chain.last_fault[proxy] = f"{said} (from {origin.name})"
        chain.last_fault[origin] = f"{said} (over {proxy.name})"

    def _in_turn(self, proxy: Member, origin: Member, now: float) -> bool:
        return proxy.usable(now) and origin.usable(now)

    def _out_of_turn(self, proxy: Member, origin: Member, now: float) -> bool:
        """Returns True if the path may be tried although its proxy or origin is put aside. A failed member
        may work together with another one; a member that served wrong bytes may be asked past its cache."""
        path = (proxy, origin)
        free = path not in self._chain.probing or not (proxy.dead(now) or origin.dead(now))
        return free and now - self._chain.path_failed.get(path, float("-inf")) >= self._chain.policy.rest

    def _whatever(self, proxy: Member, origin: Member, now: float) -> bool:  # noqa: ARG002
        return proxy not in self._unreachable

    def _pick(self, now: float, ready: Callable[[Member, Member, float], bool]) -> Route | None:
        paths = [
            (proxy, origin)
            for proxy in self._proxies
            for origin in self._origins
            if (proxy, origin, self._past_caches(proxy)) not in self._tried
            and not self._is_hopeless(proxy, origin, now)
            and ready(proxy, origin, now)
        ]
        if not paths:
            return None
        proxy, origin = self._best(paths) if self._failures.items else paths[0]
        no_cache = self._past_caches(proxy)
        self._tried.add((proxy, origin, no_cache))
        in_turn = proxy.usable(now) and origin.usable(now)
        trial = tuple(member for member in (proxy, origin) if in_turn and member.state is not MemberState.UP)
        for member in trial:
            member.trials += 1
        if not in_turn:
            self._chain.probing.add((proxy, origin))
        policy = self._chain.policy
        others = len(self._proxies) * len(self._origins) - len({path[:2] for path in self._tried})
        silence = max((self._deadline - now) / (min(others, 3) + 1), policy.least_silence)
        longest = (
            policy.silence_last
            if not others
            else policy.trial_silence
            if trial or not in_turn
            else policy.silence
        )
        self._chain.attempts += 1
        return Route(proxy, origin, no_cache, min(silence, longest), trial, not in_turn)

    def _is_hopeless(self, proxy: Member, origin: Member, now: float) -> bool:
        return now < self._hopeless.get((proxy, origin), now)

    def _best(self, paths: list[tuple[Member, Member]]) -> tuple[Member, Member]:
        """Returns the path that is most likely to work, judged by the failures of this round."""
        over = Counter(failure.route.proxy for failure in self._failures.items)
        to = Counter(failure.route.origin for failure in self._failures.items)
        return min(
            paths,
            key=lambda path: (
                over[path[0]] >= 2,
                self._proxies.index(path[0]),
                to[path[1]],
                self._origins.index(path[1]),
            ),
        )

    def _past_caches(self, proxy: Member) -> bool:
        return self._no_cache or proxy.state is MemberState.LIAR

    def _return(self, route: Route) -> None:
        for member in route.on_trial:
            member.trials -= 1
        if route.out_of_turn:
            self._chain.probing.discard((route.proxy, route.origin))

    def _works(self, route: Route, now: float) -> None:
        self._chain.path_found()
        for member in (route.proxy, route.origin):
            if member.answered(now):
                self._chain.tell(member)

    def _verdict(self, now: float) -> LazyfsError | None:
        if all(self._is_hopeless(proxy, origin, now) for proxy in self._proxies for origin in self._origins):
            recent = max(self._hopeless.values()) - self._chain.policy.probe_first
            if min(self._hopeless.values()) >= recent:
                return Outage(self._text("no path can work until this is mended"))
            self._hopeless = {path: until for path, until in self._hopeless.items() if until >= recent}
        faults = {failure.fault for failure in self._failures.items}
        if not faults or not faults <= CONTENT | self._absent:
            return None
        if faults <= self._absent:
            return NotFound(self._text("no origin has it"))
        return BadData(self._text("every copy in reach is wrong")) if self._rounds else None

    def _end_round(self, now: float) -> None:
        # a cache that keeps errors (squid's negative_ttl) repeats one long after the origin is back
        if self._failures.end_round(now) and self._rounds > 0:
            self._no_cache = True
        self._tried.clear()
        self._unreachable.clear()

    def _give_up(self, error: LazyfsError) -> GiveUp:
        if self._final is None:
            self._chain.failed_requests += 1
        self._final = error
        return GiveUp(error)

    def _text(self, what: str) -> str:
        known = [member.why for member in (*self._origins, *self._proxies) if member.why]
        ways = "; ".join(list(self._words)[-4:] or known[:4])
        return f"{self._path}: {what}" + (f" ({ways})" if ways else "")
