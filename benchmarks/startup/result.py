"""The result of a run of the benchmark, as JSON."""

import msgspec

from benchmarks.facts import Facts
from benchmarks.startup.images import BenchmarkImage
from benchmarks.startup.services import Line
from benchmarks.startup.start import Start


class CaseResult(msgspec.Struct):
    """All starts of one side with one program on one line."""

    line: Line
    workload: str
    side: str
    starts: list[Start] = []


class Result(msgspec.Struct):
    """The result of one run."""

    benchmark: str
    command: str
    facts: Facts
    images: list[BenchmarkImage]
    cases: list[CaseResult]

    def case(self, line: Line, workload: str, side: str) -> CaseResult:
        """Returns the row of one side with one program on one line. Raises KeyError if the plan has no such
        row."""
        for case in self.cases:
            if (case.line, case.workload, case.side) == (line, workload, side):
                return case
        raise KeyError((line, workload, side))
