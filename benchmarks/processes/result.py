"""The result of a run, as JSON."""

import msgspec

from benchmarks.facts import Facts
from benchmarks.processes.operations import Operation
from benchmarks.startup.images import BenchmarkImage


class Starts(msgspec.Struct, frozen=True):
    """One start of all processes of a batch."""

    seconds: float
    programs_cpu: float
    """Processor seconds of all processes together, from their fork on."""
    server_cpu: float
    """Processor seconds of the file server's processes."""
    operations: dict[str, Operation]
    """Type of FUSE request -> the requests. Empty where the kernel alone serves."""
    lock_held: float
    """Share of time in which a thread of the server held Python's global lock."""
    lock_handed_over: int
    """The number of times that the lock went from one thread to another."""

    @property
    def cpu(self) -> float:
        return self.programs_cpu + self.server_cpu


class Case(msgspec.Struct, frozen=True):
    """All starts of one batch on one side: one of each kind for each round."""

    batch: str
    side: str
    cold: list[Starts]
    """The first start after the mount: the kernel has no pages or names of it. Empty for the unpacked
    tree."""
    warm: list[Starts]
    """The start after that one."""


class Result(msgspec.Struct, frozen=True):
    benchmark: str
    command: str
    facts: Facts
    image: BenchmarkImage
    processes: int
    cases: list[Case]

    def case(self, batch: str, side: str) -> Case:
        """Returns a row. Raises KeyError if there is none."""
        for case in self.cases:
            if (case.batch, case.side) == (batch, side):
                return case
        raise KeyError((batch, side))
