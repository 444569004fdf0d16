"""Chooses the tenant that gives up a value when room is needed: one cache serves many tenants, and none may
take it all.

A *tenant* is an owner of values, such as a repository. Its *share* of a full cache is an equal part of the
values used during the last day. Values that were not used for a day are in nobody's share: they go first, the
least recently used before the others, as if there were one tenant. If all values are younger, the tenant that
holds the most bytes gives up a value. So a tenant that reads without end pushes out its own values once it
holds as much as another one, and a tenant that holds less than an equal part loses nothing that it uses.

The time for choosing grows with the number of tenants, which is MOST at most, and not with the number of
values.
"""

from collections.abc import Iterator, Sequence

from lazyfs_cache.policy.eviction import Queued

IDLE = 24 * 3600 * 1_000_000
"""A value that was not used for this many ticks (microseconds) is in nobody's share. It is a day, because
jobs of one kind come daily."""

MOST = 32
"""Number of tenants that have a share of their own. All further tenants, and the values without a tenant,
have one share together."""

_NEVER = 1 << 63


class Stake:
    """One tenant's part of the cache while values are being chosen."""

    def __init__(self, held: int, order: Iterator[Queued], last_use: int | None = None) -> None:
        """`held`: bytes of the tenant's values. `order`: the values in the order in which they should go.
        `last_use`: the tick of the tenant's last use, if `order` is SIEVE's; None if it is LRU's, where the
        tick of the next value tells its last use. SIEVE's order may end before it has given all values, but
        not before it has given one."""
        self.held = held
        self._order = order
        self._last_use = last_use
        self._next: Queued | None = None
        self._gave = False

    @property
    def may_have_more(self) -> bool:
        """True if the tenant's `order` has ended without having given all values."""
        return self._gave and self._last_use is not None

    @property
    def idle_since(self) -> int:
        """The latest tick at which the next value to go can have been used."""
        if self._last_use is not None:
            return self._last_use
        if self._next is None:
            self._next = next(self._order, None)
        return _NEVER if self._next is None else self._next.tick

    def give(self) -> Queued | None:
        """Returns the value that goes next; None if there is no more."""
        value, self._next = self._next or next(self._order, None), None
        if value is not None:
            self._gave = True
            self.held -= value.charge
        return value


def by_share(stakes: Sequence[Stake], now: int) -> Iterator[Queued]:
    """Yields the values of all tenants in the order in which they should go. `stakes`: each tenant's part of
    the cache. `now`: the present tick. Ends when it is the turn of a stake whose order has ended early: no
    other stake gives in its place."""
    left = list(stakes)
    chosen = None
    enough = 0
    while left:
        if chosen is None or chosen.held < enough:
            chosen, enough = _giver(left, now)
        value = chosen.give()
        if value is not None:
            yield value
        elif chosen.may_have_more:
            return
        else:
            left.remove(chosen)
            chosen = None


def _giver(stakes: list[Stake], now: int) -> tuple[Stake, int]:
    """Returns the stake that gives values now, and a number of bytes: the stake gives until it holds fewer
    bytes than this number."""
    if len(stakes) == 1:
        return stakes[0], 0
    longest = min(stakes, key=_idle_since)
    if longest.idle_since < now - IDLE:
        return longest, longest.held
    stakes.sort(key=_held, reverse=True)
    return stakes[0], stakes[1].held


def _idle_since(stake: Stake) -> int:
    return stake.idle_since


def _held(stake: Stake) -> int:
    return stake.held
