"""The table of the processor time of mounts."""

from statistics import median

import msgspec

from benchmarks.facts import Facts


class Sample(msgspec.Struct, frozen=True):
    """The processor time of one mount in seconds, counted since its command was started."""

    answered: float
    """Until the command returned."""
    idle: float
    """Until the daemon had nothing left to do."""


class Side(msgspec.Struct, frozen=True):
    """The mounts of one revision."""

    revision: str
    warm: bool
    """True if the cache directory was that of an earlier mount; False if it was empty."""
    samples: list[Sample]


class Result(msgspec.Struct, frozen=True):
    benchmark: str
    command: str
    facts: Facts
    sides: list[Side]
    """First this checkout's; sides of other revisions are compared with it."""


def _ratio(ours: Side, theirs: Side, field: str) -> str:
    """Returns the median of the ratios of pairs, and the range in which the middle half of them lies."""
    pairs = zip(ours.samples, theirs.samples, strict=True)
    ratios = sorted(getattr(one, field) / getattr(other, field) for one, other in pairs)
    quarter = len(ratios) // 4
    return f"{median(ratios):.3f} ({ratios[quarter]:.3f} to {ratios[-1 - quarter]:.3f})"


def document(result: Result) -> str:
    """Returns the result as Markdown. A ratio is this checkout's time, divided by the other revision's in the
    same turn."""
    facts = result.facts
    lines = [
        f"Command: `{result.command}`, at commit {facts.commit}. {facts.cpu}, {facts.cores} cores.",
        "",
        "| cache | revision | mounts | CPU ms until the answer | CPU ms until idle | ratio at the answer "
        "| ratio once idle |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for side in result.sides:
        ours = next(one for one in result.sides if one.warm is side.warm)
        ratios = ["1", "1"] if side is ours else [_ratio(ours, side, field) for field in ("answered", "idle")]
        times = [
            f"{median(getattr(sample, field) for sample in side.samples) * 1e3:.0f}"
            for field in ("answered", "idle")
        ]
        cells = ["warm" if side.warm else "empty", side.revision, str(len(side.samples)), *times, *ratios]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
