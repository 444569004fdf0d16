"""Hedges, which are second attempts beside slow ones: decides when a hedge may start, and how many the budget
allows."""

from collections import deque

from lazyfs.core.chain.policy import Policy

_SAMPLES = 128
_ENOUGH = 20


class Hedges:
    """Durations of recent attempts, and the budget for hedges (second attempts)."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._durations: deque[float] = deque(maxlen=_SAMPLES)
        self._noted = 0
        self._threshold = policy.hedge_default
        self._budget = 1.0
        self.started = 0
        self.won = 0

    def request(self) -> None:
        """Notes a new request: adds `policy.hedge_share` to the budget, which never exceeds one hedge."""
        self._budget = min(self._budget + self._policy.hedge_share, 1.0)

    def took(self, seconds: float) -> None:
        """Notes the duration of an attempt that succeeded."""
        durations = self._durations
        durations.append(seconds)
        self._noted += 1
        count = len(durations)
        if count >= _ENOUGH and self._noted % 8 == 0:
            slow = sorted(durations)[min(int(count * self._policy.hedge_percentile), count - 1)]
            self._threshold = max(slow * self._policy.hedge_factor, self._policy.hedge_floor)

    @property
    def after(self) -> float:
        """The seconds after which an attempt counts as slow."""
        return self._threshold

    def take(self) -> bool:
        """Takes one hedge out of the budget. Returns False if the budget is too small."""
        if self._budget < 1.0:
            return False
        self._budget -= 1.0
        self.started += 1
        return True
