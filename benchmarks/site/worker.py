"""A worker on the simulated clock: its chain is the client's own, with one plan for each request, and so are
the bounds of its cache and of what a profile may fetch ahead.

A unit whose objects all are at running proxies without a queue is fetched in one event: every plan would go
to the first usable proxy that rendezvous hashing gives, and come back with bytes. `Chain` gets the counts of
single requests. All other units are fetched request by request.
"""

import itertools
import random
from collections.abc import Callable
from typing import Final, NamedTuple

from benchmarks.site.ahead import Ahead
from benchmarks.site.clock import Clock, Signal, Task
from benchmarks.site.images import Object, Program, Unit
from benchmarks.site.node_cache import NodeCache
from benchmarks.site.tiers import Origin, Proxy, Settings
from lazyfs.core.chain.blame import Route
from lazyfs.core.chain.chain import Chain
from lazyfs.core.chain.faults import AttemptFailed, Fault
from lazyfs.core.chain.member import Member, MemberState
from lazyfs.core.chain.plan import GiveUp, Pause, Plan
from lazyfs.core.chain.policy import Policy
from lazyfs.prefetch.profile_schedule import ProfileSchedule, fits

PATIENCE: Final = 30.0
_BUDGET: Final = 34
"""Requests after which the budget for hedges is full: more change nothing."""
_SAMPLED: Final = 8
"""Durations that a unit notes for the hedges: all of them are equal."""
_CONNECT: Final = 0.001
"""Seconds until a connection to a proxy that is not running is refused."""


class Attempt(NamedTuple):
    """One attempt and its outcome."""

    route: Route
    started: float
    first: float
    """The time of the first byte."""
    end: float
    from_cache: bool
    fault: Fault | None


class Part(NamedTuple):
    """The objects of a unit for which one proxy is asked first."""

    unit: int
    up: frozenset[str]
    """The proxies that are usable."""
    proxy: Proxy
    objects: list[Object]
    size: int


class Site:
    """What the workers of a site share."""

    def __init__(
        self, clock: Clock, settings: Settings, proxies: list[Proxy], origin: Origin, *, hedged: bool = True
    ) -> None:
        """`hedged`: a slow attempt gets a rival, as lazyfs does it and a pull does not."""
        self.clock = clock
        self.settings = settings
        self.origin = origin
        self.hedged = hedged
        self.proxies = {proxy.url: proxy for proxy in proxies}
        self._parts: dict[tuple[int, frozenset[str]], list[Part]] = {}

    def chain(self, seed: int) -> Chain:
        """Returns a worker's chain; without proxies its requests go straight to the origin."""
        group = tuple(self.proxies) or ("DIRECT",)
        return Chain([group], ["http://origin.example.org"], Policy(), random.Random(seed).random)

    def parts(self, order: Callable[[str], list[Member]], unit: Unit, up: frozenset[str]) -> list[Part]:
        """Returns the objects of a unit by the proxy that is asked first if those in `up` are usable. All
        workers have the same proxies, so they agree on it."""
        found = self._parts.get((unit.number, up))
        if found is None:
            by_url: dict[str, list[Object]] = {}
            for one in unit.objects:
                first = next(proxy.url for proxy in order(one.path) if proxy.url in up)
                by_url.setdefault(first, []).append(one)
            found = [
                Part(unit.number, up, self.proxies[url], objects, sum(one.stored for one in objects))
                for url, objects in by_url.items()
            ]
            self._parts[unit.number, up] = found
        return found


class Worker:
    """One node: a cache, a chain, and the starts of its jobs."""

    def __init__(self, site: Site, number: int) -> None:
        self._site = site
        self._clock = site.clock
        self.cache = NodeCache(site.settings.node_cache)
        self.chain = site.chain(number)
        self._members = {member.url: member for group in self.chain.groups for member in group}
        self._coming: dict[int, Signal] = {}
        self._schedule = ProfileSchedule()
        self.objects = 0
        """Objects that starts needed."""
        self.hits = 0
        """Objects that were in the node's cache when a start read them."""
        self.fetched = 0
        """Objects fetched."""
        self.failed = 0
        """Requests that ended without bytes."""
        self.single = 0
        """Requests that were made one by one."""
        self.mounted = False

    # starts

    def start(self, program: Program, times: list[float], profile: bool = False) -> Task:
        """Runs a start whose reader asks for one unit after the other; adds its seconds to `times`. With
        `profile`, the start's objects are fetched ahead of the reader, as far as the client's window lets
        them."""
        began = self._clock.now
        cold = (program.cpu_cold - program.cpu_warm) / max(program.objects, 1)
        each = program.cpu_warm / max(len(program.units), 1)
        ahead = Ahead(self._clock, program, self._is_here, self.bring)
        if profile and fits(ahead.listed, self._site.settings.node_cache):
            ahead.begin(self._schedule)
        busy = 0.0
        for unit in program.units:
            busy += each
            self.objects += len(unit.objects)
            if self.cache.use(unit.number, self._clock.now):
                self.hits += len(unit.objects)
            else:
                yield self._clock.now + busy + cold * len(unit.objects)
                busy = 0.0
                yield from self.bring(unit)
            ahead.used(unit)
        yield self._clock.now + busy
        times.append(self._clock.now - began)

    def _is_here(self, unit: Unit) -> bool:
        return unit.number in self._coming or self.cache.has(unit.number)

    # fetching

    def bring(self, unit: Unit) -> Task:
        """Fetches a unit into the cache, or waits for the fetch that is under way."""
        if unit.number in self._coming:
            yield self._coming[unit.number]
            return
        if self.cache.has(unit.number):
            return
        signal = self._coming[unit.number] = Signal()
        self.fetched += len(unit.objects)
        parts = self._undisturbed(unit)
        if parts:
            yield self._bulk(unit, parts)
        else:
            yield from self._singly(unit)
        self.cache.put(unit.number, unit.charge, len(unit.objects), self._clock.now)
        del self._coming[unit.number]
        self._clock.fire(signal)

    def _undisturbed(self, unit: Unit) -> list[Part]:
        """Returns the parts of a unit whose requests would all be answered by the proxy that is asked first,
        out of its cache, and too soon for a hedge; an empty list if one would not, or would try again a proxy
        that was put aside."""
        site, now = self._site, self._clock.now
        members = self._members.values()
        up = frozenset(member.url for member in members if member.state is MemberState.UP)
        if not up or not site.proxies or any(m.url not in up and not m.dead(now) for m in members):
            return []
        parts = site.parts(self.chain.proxy_order, unit, up)
        after = self.chain.hedges.after - site.settings.lan
        for part in parts:
            if not part.proxy.holds(now, (part.unit, part.up), part.objects):
                return []
            if part.proxy.seconds(now, len(part.objects), part.size) >= after:
                return []
        return parts

    def _bulk(self, unit: Unit, parts: list[Part]) -> float:
        """Makes the requests of an undisturbed unit. Returns the time at which the last one has ended."""
        site, now, chain = self._site, self._clock.now, self.chain
        count = len(unit.objects)
        chain.requests += count
        chain.attempts += count
        for _ in range(min(count, _BUDGET)):
            chain.hedges.request()
        end = now + unit.waves * site.settings.lan + unit.stored / site.settings.node_line
        for _, _, proxy, objects, size in parts:
            first, last = proxy.bulk(now, objects, size)
            end = max(end, last + site.settings.lan)
            for member in (self._members[proxy.url], chain.origins[0]):
                member.answers += len(objects)
                member.bytes += size
            for _ in range(min(len(objects), _SAMPLED)):
                chain.hedges.took(first - now + site.settings.lan)
        return end

    def _singly(self, unit: Unit) -> Task:
        """Makes the requests of a unit one by one, those of a wave together."""
        self.single += len(unit.objects)
        for _, wave in itertools.groupby(unit.objects, lambda one: one.wave):
            objects = list(wave)
            ended = Signal()
            left = [len(objects)]
            for one in objects:
                self._clock.start(self._request(one, left, ended))
            yield ended

    def _request(self, one: Object, left: list[int], ended: Signal) -> Task:
        yield from self._planned(one)
        left[0] -= 1
        if not left[0]:
            self._clock.fire(ended)

    def _planned(self, one: Object) -> Task:
        clock = self._clock
        now = clock.now
        plan = Plan(self.chain, one.path, now, now + PATIENCE, no_cache=False, may_be_missing=False)
        while True:
            step = plan.next(clock.now)
            if isinstance(step, GiveUp):
                self.failed += 1
                return
            if isinstance(step, Pause):
                yield step.until
                continue
            attempts = [self._attempt(step, one)]
            if self._site.hedged and attempts[0].end - clock.now > self.chain.hedges.after:
                yield clock.now + self.chain.hedges.after
                rival = plan.hedge(clock.now, step)
                if rival is not None:
                    attempts.append(self._attempt(rival, one))
            attempts.sort(key=lambda attempt: (attempt.fault is not None, attempt.end))
            yield attempts[0].end
            for number, attempt in enumerate(attempts):
                self._report(plan, one, attempt, overtaken=number > 0)
            if attempts[0].fault is None:
                return

    def _report(self, plan: Plan, one: Object, attempt: Attempt, *, overtaken: bool) -> None:
        now = self._clock.now
        if overtaken:
            plan.abandoned(attempt.route, overtaken=True)
        elif attempt.fault is not None:
            plan.failed(attempt.route, AttemptFailed(attempt.fault, ""), attempt.started, now)
        else:
            plan.succeeded(
                attempt.route,
                now,
                size=one.stored,
                first_byte=attempt.first - attempt.started,
                elapsed=now - attempt.started,
                from_cache=attempt.from_cache,
            )

    def _attempt(self, route: Route, one: Object) -> Attempt:
        """Makes an attempt over a route. Returns its outcome, which lies in the future."""
        settings, now = self._site.settings, self._clock.now
        transfer = one.stored / settings.node_line
        if route.proxy.direct:
            first, end = self._site.origin.get(now + settings.wan / 2, one)
            half = settings.wan / 2
            return Attempt(route, now, first + half, max(end + half, now + transfer), False, None)
        proxy = self._site.proxies[route.proxy.url]
        if proxy.down(now):
            return Attempt(route, now, now + _CONNECT, now + _CONNECT, False, Fault.REFUSED)
        answer = proxy.get(now, one)
        first = answer.first + settings.lan
        end = max(answer.end + settings.lan, now + settings.lan + transfer)
        killed = proxy.dies_within(now, end)
        if killed is not None:
            return Attempt(route, now, killed, killed, False, Fault.CLOSED)
        if first - now > route.silence:
            return Attempt(route, now, first, now + route.silence, False, Fault.SILENT)
        return Attempt(route, now, first, end, answer.from_cache, None)
