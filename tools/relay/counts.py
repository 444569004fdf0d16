"""Counts of the relay's traffic since it started."""

from dataclasses import asdict, dataclass


@dataclass
class Counts:
    """Totals over all connections of all forwards."""

    connections: int = 0
    requests: int = 0
    """HTTP requests whose header has passed."""
    bytes_up: int = 0
    """Bytes from clients to origins."""
    bytes_down: int = 0
    waits: int = 0
    """Length of the longest chain of requests in which each was sent after the previous answer had ended."""

    def minus(self, earlier: "Counts") -> "Counts":
        """Returns the difference from `earlier`: the traffic since then."""
        mine, theirs = asdict(self), asdict(earlier)
        return Counts(**{name: mine[name] - theirs[name] for name in mine})
