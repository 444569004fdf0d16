"""The health of one proxy or origin: usable, or put aside (left alone for a time) and for which reason."""

import enum
from collections import Counter, deque
from collections.abc import Callable

from lazyfs.core.chain.faults import Fault
from lazyfs.core.chain.notation import DIRECT, redact
from lazyfs.core.chain.policy import Policy


class MemberState(enum.StrEnum):
    """The state of a member: up, put aside after a failure, or put aside for serving wrong bytes."""

    UP = "up"
    DOWN = "down"
    LIAR = "liar"


class Member:
    """Health of one proxy or origin. Not thread-safe: its chain's owner holds a lock."""

    def __init__(self, url: str, kind: str, policy: Policy, random: Callable[[], float]) -> None:
        self.url = url
        self.name = redact(url)
        self.kind = kind
        self.direct = kind == "proxy" and url == DIRECT
        self._policy = policy
        self._random = random
        self.state = MemberState.UP
        self.why = ""
        self.changed = float("-inf")
        """The time of the last change of state; outcomes of attempts that began before it are ignored."""
        self.retry_at = float("-inf")
        self.failures = 0
        self.trials = 0
        """Number of attempts under way that find out if the member is up again."""
        self.answers = 0
        self.bytes = 0
        self.faults: Counter[Fault] = Counter()
        """Faults of attempts over this member, whether the member or another one caused them."""
        self.latency: float | None = None
        """For an origin: smoothed seconds to the first byte of answers that came from no cache."""
        self.measured = float("-inf")
        self._lies: deque[float] = deque()

    def usable(self, now: float) -> bool:
        """Returns True if the member is up, or if it is due for a trial after a time of rest and no request
        has begun one yet."""
        return self.state is MemberState.UP or (now >= self.retry_at and not self.trials)

    def dead(self, now: float) -> bool:
        """Returns True if the member is down after failures and not yet due for a trial. A member put aside
        for wrong bytes is not dead."""
        return not self.usable(now) and not (self.state is MemberState.LIAR and not self.failures)

    def answered(self, now: float) -> bool:
        """Notes that an attempt over this member brought the right bytes. Returns True if this brings the
        member up again."""
        self.answers += 1
        self.failures = 0
        if self.state is MemberState.UP or (self.state is MemberState.LIAR and now < self.retry_at):
            return False
        self.state, self.why, self.changed, self.retry_at = MemberState.UP, "", now, float("-inf")
        self._lies.clear()
        return True

    def blame(
        self, why: str, started: float, now: float, *, stay_away: float | None = None, proven: bool = True
    ) -> bool:
        """Counts a failure against this member. Returns True if this puts the member aside. `why`: the fault,
        for `lazyfs status`. `started`: the time at which the failed attempt began. `stay_away`: the seconds
        for which the server asked not to be asked.

        An attempt that began before the last change of state is ignored. Without proof (no other path worked)
        the first failure in a row changes nothing: a hiccup of the only path must not stop every request.
        """
        if started < self.changed:
            return False
        policy = self._policy
        self.failures += 1
        if not proven and self.failures == 1 and stay_away is None and self.state is MemberState.UP:
            return False
        away = min(policy.probe_first * 2.0 ** min(self.failures - 1, 30), policy.probe_max)
        if stay_away is not None:
            away = max(away, min(stay_away, policy.retry_after_max))
        if self.state is MemberState.LIAR and self.retry_at > now + away:
            return False
        self._aside(MemberState.DOWN, why, now, away)
        return True

    def lied(self, why: str, now: float) -> bool:
        """Notes that the member served wrong bytes. Returns True if it has done so too often and is now put
        aside."""
        self._lies.append(now)
        while now - self._lies[0] > self._policy.lie_window:
            self._lies.popleft()
        if len(self._lies) < self._policy.lies:
            return False
        news = self.state is not MemberState.LIAR
        self._aside(MemberState.LIAR, f"{why}, {len(self._lies)} times", now, self._policy.liar_aside)
        return news

    def _aside(self, state: MemberState, why: str, now: float, away: float) -> None:
        self.state, self.why, self.changed = state, why, now
        self.retry_at = now + away * (1 - self._policy.jitter * self._random())

    def measure(self, first_byte: float, now: float) -> None:
        """Notes the seconds to the first byte of an answer that came from the origin, not from a cache."""
        if self.latency is None or now - self.measured > self._policy.latency_age:
            self.latency = first_byte
        else:
            self.latency += 0.2 * (first_byte - self.latency)
        self.measured = now
