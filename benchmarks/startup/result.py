"""The result of a run of the benchmark, as JSON."""

import statistics

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
    run: int | None = None
    """Index in Result.earlier of the run that made these starts; None if the run of the result made them."""

    def median(self, field: str) -> float:
        """Returns the median of one field of the starts."""
        return float(statistics.median(getattr(start, field) for start in self.starts))


class Run(msgspec.Struct, frozen=True):
    """An earlier run, of which a result has rows."""

    command: str
    facts: Facts


class Result(msgspec.Struct):
    """The result of a run, and the rows of earlier runs that it did not measure again."""

    benchmark: str
    command: str
    facts: Facts
    images: list[BenchmarkImage]
    cases: list[CaseResult]
    earlier: list[Run] = []

    def case(self, line: Line, workload: str, side: str) -> CaseResult:
        """Returns the row of one side with one program on one line. Raises KeyError if the plan has no such
        row."""
        for case in self.cases:
            if (case.line, case.workload, case.side) == (line, workload, side):
                return case
        raise KeyError((line, workload, side))

    def keep(self, before: "Result") -> None:
        """Adds the rows of an earlier result for which this one has no starts, and the images of those
        rows."""
        ours = {(case.line, case.workload, case.side) for case in self.cases if case.starts}
        kept = [
            case for case in before.cases if case.starts and (case.line, case.workload, case.side) not in ours
        ]
        replaced = {(case.line, case.workload, case.side) for case in kept}
        self.cases = [case for case in self.cases if (case.line, case.workload, case.side) not in replaced]
        runs = [Run(before.command, before.facts), *before.earlier]
        for case in kept:
            run = runs[0 if case.run is None else case.run + 1]
            if run not in self.earlier:
                self.earlier.append(run)
            self.cases.append(msgspec.structs.replace(case, run=self.earlier.index(run)))
        names = {image.name for image in self.images}
        self.images += [image for image in before.images if image.name not in names]
