"""The result of the simulations and of the validation."""

import msgspec

from benchmarks.facts import Facts


class Row(msgspec.Struct, frozen=True):
    """One scenario with one way of bringing images."""

    scenario: str
    variant: str
    jobs: int
    needed_objects: int
    """Objects that the starts read."""
    node_hits: int
    """Objects that were in the node's cache when a start read them."""
    fetched_objects: int
    """Objects that nodes fetched."""
    proxy_requests: int
    proxy_hits: int
    """Requests that proxies answered out of their caches."""
    bytes_fetched: int
    """Bytes that nodes fetched."""
    origin_requests: int
    bytes_from_origin: int
    origin_objects: int
    """Different objects that the origin was asked for."""
    most: int
    """Requests for the object that the origin was asked for most often."""
    hedges: int
    single: int
    """Requests simulated one by one; the others in units."""
    failed: int
    p50: float
    """Seconds to the result of a start."""
    p99: float
    proxy_busy: float
    """Largest share of time that a proxy was busy."""

    @property
    def times_per_object(self) -> float:
        """Returns how often the origin saw each object, in the mean."""
        return self.origin_requests / max(self.origin_objects, 1)


class Counted(msgspec.Struct, frozen=True):
    """Requests for objects and bytes of a day, counted at real servers or simulated."""

    proxy_requests: int
    proxy_bytes: int
    origin_requests: int
    origin_bytes: int


class Validation(msgspec.Struct, frozen=True):
    """A scaled-down day at real mounts, beside the same day simulated."""

    mounts: int
    starts: int
    counted: Counted
    simulated: Counted

    def differences(self) -> dict[str, float]:
        """Returns simulated / counted - 1 for each count."""
        return {
            name: getattr(self.simulated, name) / max(getattr(self.counted, name), 1) - 1
            for name in Counted.__struct_fields__
        }


class Result(msgspec.Struct, frozen=True):
    """The result of one run."""

    benchmark: str
    command: str
    facts: Facts
    recorded_at: str
    """Commit of the recorded starts."""
    workers: int
    rows: list[Row]
