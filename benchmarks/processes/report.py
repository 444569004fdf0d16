"""Medians, bounds and tables from a result."""

from collections.abc import Iterator
from statistics import median
from typing import Final, NamedTuple

from benchmarks.processes.result import Case, Result, Starts
from benchmarks.processes.sides import DIRECT, KERNEL, SQUASHFUSE, SQUASHFUSE_GZIP, TREE

WARM_BOUND: Final = 1.3
COLD_BOUND: Final = 0.5


class Bound(NamedTuple):
    """A ratio of processor times, and the largest value that it may have."""

    text: str
    ratio: float
    limit: float
    floor: float
    """The ratio that the unpacked tree with warm pages reaches: no file system comes below it."""
    beyond: float | None = None
    """The same ratio of what both sides take beyond the unpacked tree with warm pages: what the file systems
    add to the programs. None where the unpacked tree itself is compared with."""

    @property
    def reached(self) -> bool:
        return self.ratio <= self.limit

    @property
    def in_reach(self) -> bool:
        """False if the programs alone take more than the limit, so that no file system can stay below it."""
        return self.floor <= self.limit


def cpu(starts: list[Starts]) -> float:
    """Returns the median of the processor seconds of programs and server together."""
    return median(one.cpu for one in starts)


def spread(starts: list[Starts]) -> str:
    """Returns the median of the processor seconds, with the lowest and the highest of the rounds."""
    each = [one.cpu for one in starts]
    return f"{median(each):.2f} ({min(each):.2f} to {max(each):.2f})"


def bounds(result: Result) -> list[Bound]:
    """Returns the ratios of the direct session that have a bound, for each batch."""
    found = []
    for batch in dict.fromkeys(case.batch for case in result.cases):
        ours, tree = result.case(batch, DIRECT), result.case(batch, TREE)
        warm = cpu(ours.warm) / cpu(tree.warm)
        found.append(Bound(f"{batch}: warm pages, of the unpacked tree", warm, WARM_BOUND, 1.0))
        for other in (SQUASHFUSE, SQUASHFUSE_GZIP):
            theirs = result.case(batch, other)
            cold, floor = (cpu(starts) / cpu(theirs.cold) for starts in (ours.cold, tree.warm))
            beyond = [cpu(side.cold) - cpu(tree.warm) for side in (ours, theirs)]
            found.append(
                Bound(
                    f"{batch}: cold pages, of {other}",
                    cold,
                    COLD_BOUND,
                    floor,
                    beyond[0] / beyond[1],
                )
            )
    return found


def tables(result: Result) -> Iterator[str]:
    """Returns the lines of the Markdown tables."""
    facts = result.facts
    yield f"Command: `{result.command}`, at commit {facts.commit}. {facts.cpu}, {facts.cores} cores."
    yield ""
    for batch in dict.fromkeys(case.batch for case in result.cases):
        yield f"### {batch}"
        yield ""
        yield (
            "| side | warm: processor s | of the unpacked tree | cold: processor s | of it, server "
            "| beyond the unpacked tree | of squashfuse_ll, zstd | seconds, warm | cold |"
        )
        yield "|---|" + "---:|" * 8
        for case in result.cases:
            if case.batch == batch:
                yield _times(result, case)
        yield ""
        yield (
            "| side, cold pages | requests | LOOKUP | p50, p99 us | READ | p50, p99 us | other "
            "| warm: requests | lock held, cold | us a request | handed over |"
        )
        yield "|---|" + "---:|" * 10
        for case in result.cases:
            if case.batch == batch and case.side not in (TREE, KERNEL):
                yield _operations(case)
        yield ""
    yield (
        f"| ratio of processor times, {DIRECT} | reached | bound | the unpacked tree itself "
        "| of what is beyond it |"
    )
    yield "|---|---:|---:|---:|---:|"
    found = bounds(result)
    for bound in found:
        missed = "missed" if bound.in_reach else "missed, as by any file system"
        reached = f"{bound.ratio:.2f}" + ("" if bound.reached else f" ({missed})")
        beyond = "" if bound.beyond is None else f"{bound.beyond:.2f}"
        yield f"| {bound.text} | {reached} | {bound.limit:g} | {bound.floor:.2f} | {beyond} |"
    yield ""
    yield from _reasons([bound for bound in found if not bound.reached])


def _reasons(missed: list[Bound]) -> Iterator[str]:
    """Returns a sentence for each bound that was missed."""
    for bound in missed:
        if bound.in_reach:
            yield f"- {bound.text}: missed by {bound.ratio / bound.limit - 1:.0%}."
        else:
            yield (
                f"- {bound.text}: the programs alone, from the unpacked tree with warm pages, take "
                f"{bound.floor:.2f} of that side's time, so no file system comes below {bound.limit:g}. "
                f"To the programs' time, lazyfs adds {bound.beyond or 0:.2f} of what that side adds."
            )


def _times(result: Result, case: Case) -> str:
    tree = cpu(result.case(case.batch, TREE).warm)
    cells = [case.side, spread(case.warm), f"{cpu(case.warm) / tree:.2f}"]
    if case.cold:
        other = cpu(result.case(case.batch, SQUASHFUSE).cold)
        server = median(one.server_cpu for one in case.cold)
        beyond = f"{cpu(case.cold) - tree:.2f}"
        cells += [spread(case.cold), f"{server:.2f}", beyond, f"{cpu(case.cold) / other:.2f}"]
    else:
        cells += [""] * 4
    cells.append(f"{median(one.seconds for one in case.warm):.2f}")
    cells.append(f"{median(one.seconds for one in case.cold):.2f}" if case.cold else "")
    return "| " + " | ".join(cells) + " |"


def _operations(case: Case) -> str:
    """Returns a line of medians over the rounds."""
    requests = median(map(_count, case.cold))
    cells = [case.side, f"{requests:,.0f}"]
    for name in ("LOOKUP", "READ"):
        kinds = [one.operations[name] for one in case.cold if name in one.operations]
        if not kinds:
            cells += ["0", ""]
            continue
        count = median(kind.count for kind in kinds)
        requests -= count
        p50, p99 = median(kind.p50_us for kind in kinds), median(kind.p99_us for kind in kinds)
        cells += [f"{count:,.0f}", f"{p50:,.0f}, {p99:,.0f}"]
    cells += [f"{requests:,.0f}", f"{median(map(_count, case.warm)):,.0f}"]
    if not any(one.lock_held for one in case.cold):
        return "| " + " | ".join([*cells, "", "", ""]) + " |"
    cells.append(f"{median(one.lock_held for one in case.cold):.0%}")
    cells.append(f"{median(one.lock_held * one.seconds * 1e6 / _count(one) for one in case.cold):,.0f}")
    cells.append(f"{median(one.lock_handed_over for one in case.cold):,.0f}")
    return "| " + " | ".join(cells) + " |"


def _count(starts: Starts) -> int:
    """Returns the number of requests."""
    return sum(kind.count for kind in starts.operations.values())
