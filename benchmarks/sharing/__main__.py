"""Measures the size of a store whose images share layers, most of a layer, or only files.

    python -m benchmarks.sharing [--beside CHECKOUT] [--json FILE] [--repeats N]

Needs root, and the packages that tools/bench installs. For each revision, publishes these images into a store
of its own: the analysis image (timed; the revisions take turns); four images that stack the layers of that
image; that image with ten changed files in its top layer; and three images of a single layer, each with three
fifths of the packages. The exit code is BOUND_MISSED if a bound of `verdicts` is exceeded.
"""

import argparse
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from benchmarks import BOUND_MISSED
from benchmarks.facts import Facts, gather
from benchmarks.sharing import layouts
from benchmarks.sharing.growth import Published, Store
from benchmarks.startup import origin
from benchmarks.startup.bench import checkout
from benchmarks.startup.images import TAG, BenchmarkImage, analysis_image
from benchmarks.startup.installed import installed

_CHECKOUT: Final = Path(__file__).parents[2]
BASES: Final = 3


class Result(msgspec.Struct, frozen=True):
    benchmark: str
    command: str
    facts: Facts
    image: BenchmarkImage
    rows: list[Published]
    mean_pack: float
    """Average stored size of a pack of the analysis image, in bytes."""
    extra_packs: int
    """The number of packs of the stacked images that the store of the analysis image alone does not have."""


def measure(
    image: BenchmarkImage, sides: list[tuple[str, str]], work: Path, repeats: int
) -> tuple[list[Published], float, int]:
    """Returns the rows, the average stored size of a pack, and the number of packs that the stacked images
    have in addition to those of the image alone. `sides` are pairs of a revision and its interpreter."""
    timed: dict[str, list[Published]] = {}
    alone: dict[str, Store] = {}
    for repeat in range(repeats):
        for number, (revision, python) in enumerate(sides[repeat % 2 :] + sides[: repeat % 2]):
            place = work / f"alone-{repeat}-{number}"
            store = alone[revision] = Store(place, revision, python)
            timed.setdefault(revision, []).append(store.publish(image.layout, TAG, "analysis"))
            if repeat < repeats - 1:
                shutil.rmtree(place)
    rows = [_together(runs) for runs in timed.values()]
    packs = alone[""].packs()
    mean = sum(packs.values()) / len(packs)

    stack = layouts.stacked(image, work / "stacked")
    extra = 0
    for revision, python in sides:
        store = Store(work / f"stacked-{revision}", revision, python)
        names = [*(f"stack{count}" for count in range(1, image.layers + 1)), "rebuilt"]
        rows += [store.publish(str(stack.path), name, name) for name in names[:-1]]
        extra += sum(not alone[revision].has(digest) for digest in store.packs())
        rows.append(store.publish(str(stack.path), names[-1], names[-1]))
        shutil.rmtree(store.path.parent)
    layouts.remove(stack)

    apart = layouts.bases(Path(origin.unpack(image)), work / "bases", BASES)
    for revision, python in sides:
        store = Store(work / f"bases-{revision}", revision, python)
        rows += [store.publish(str(apart.path), f"base{number}", f"base{number}") for number in range(BASES)]
        shutil.rmtree(store.path.parent)
    return rows, mean, extra


def _together(runs: list[Published]) -> Published:
    seconds = [second for run in runs for second in run.seconds]
    cpu = [second for run in runs for second in run.cpu_seconds]
    return msgspec.structs.replace(runs[0], seconds=seconds, cpu_seconds=cpu)


def verdicts(result: Result) -> list[tuple[str, bool]]:
    """Returns for each bound a line of text, and True if the bound holds."""
    rows = {(row.revision, row.image): row for row in result.rows}
    other = next((revision for revision, _ in rows if revision), "")
    mean, rebuilt = result.mean_pack, rows["", "rebuilt"]
    found = [
        (f"packs of the stacked images that the image alone has not: {result.extra_packs}, of 0",
         result.extra_packs == 0),
        (f"a layer with {layouts.CHANGED} files changed: {rebuilt.bytes_stored / 1e6:.1f} MB stored, "
         f"{rebuilt.bytes_stored / mean:.1f} mean packs of 20", rebuilt.bytes_stored <= 20 * mean),
    ]  # fmt: skip
    if not other:
        return found
    ours, theirs = rows["", "analysis"], rows[other, "analysis"]
    seconds = median(ours.seconds) / median(theirs.seconds)
    files, size = ours.objects / theirs.objects, ours.bytes_stored / theirs.bytes_stored
    bases = [
        sum(row.bytes_stored for row in result.rows if row.revision == one and row.image.startswith("base"))
        for one in ("", other)
    ]
    return [
        (f"publishing takes {seconds:.2f} of {other}'s time, of 1", seconds <= 1),
        (f"files in the store: {files:.3f} of {other}'s, of 0.1", files <= 0.1),
        (f"bytes in the store: {size:.3f} of {other}'s, of 1", size < 1),
        *found,
        (f"bases without a common layer: {bases[0] / bases[1]:.3f} of {other}'s bytes, of 1.25",
         bases[0] <= 1.25 * bases[1]),
    ]  # fmt: skip


def document(result: Result) -> str:
    """Returns the result as Markdown."""
    lines = [
        f"Command: `{result.command}`, at commit {result.facts.commit}. {result.facts.cpu}, "
        f"{result.facts.cores} cores. A pack of the analysis image takes "
        f"{result.mean_pack / 1e3:,.0f} kB stored, on average.\n",
        "| image | revision | s | CPU s | new objects | MB | new packs | packs there before |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.image} | {row.revision or 'this'} | {median(row.seconds):.1f} "
        f"| {median(row.cpu_seconds):.1f} | {row.objects:,} | {row.bytes_stored / 1e6:.1f} "
        f"| {row.packs:,} | {row.shared_packs:,} |"
        for row in sorted(result.rows, key=lambda row: (row.image, row.revision))
    ]
    lines.append("")
    lines += [f"- {'holds' if holds else 'MISSED'}: {text}" for text, holds in verdicts(result)]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Reads the command line, measures and prints. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sharing")
    parser.add_argument("--quick", action="store_true", help="the timed image is published once")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="of the timed image")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the result is written")
    parser.add_argument("--beside", type=Path, metavar="CHECKOUT", help="another revision too")
    options = parser.parse_args()
    image, beside = analysis_image(), options.beside
    places = [("", _CHECKOUT), *([checkout(beside.absolute())] if beside else [])]
    with tempfile.TemporaryDirectory(prefix="lazyfs-sharing-") as directory:
        work = Path(directory)
        sides = [(label, installed(place, work / f"installed-{label}")) for label, place in places]
        rows, mean, extra = measure(image, sides, work, 1 if options.quick else options.repeats)
    asked = [*(["--quick"] if options.quick else []), *(["--beside=CHECKOUT"] if beside else [])]
    command = shlex.join(["python", "-m", "benchmarks.sharing", *asked])
    result = Result("sharing", command, gather(_CHECKOUT), image.without_place(), rows, mean, extra)
    print(document(result))
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    return 0 if all(holds for _, holds in verdicts(result)) else BOUND_MISSED


if __name__ == "__main__":
    sys.exit(main())
