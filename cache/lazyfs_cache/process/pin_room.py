"""Refusals of pins that would leave too little room for other values."""

from lazyfs_cache.errors import PinSetTooLarge
from lazyfs_cache.index.rows import Sums
from lazyfs_cache.policy.limits import Limits


def check_pins_fit(root: str, limits: Limits, sums: Sums) -> None:
    """Raises PinSetTooLarge if the limit, which was just set, is too low for the pinned values."""
    if sums.pinned and not limits.pins_fit(sums, 0):
        raise PinSetTooLarge(
            f"cache {root}: {sums.pinned} bytes are pinned, too many for a limit of "
            f"{sums.limit}; unpin something or give a higher limit"
        )


def check_more_pins_fit(root: str, limits: Limits, sums: Sums, more: int) -> None:
    """Raises PinSetTooLarge if `more` bytes cannot be pinned beside those already pinned."""
    if more and not limits.pins_fit(sums, more):
        raise PinSetTooLarge(
            f"cache {root}: pinned values would take {sums.pinned + more} bytes of a "
            f"limit of {sums.limit}; unpin something or raise the limit"
        )
