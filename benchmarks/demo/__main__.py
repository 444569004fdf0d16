"""The first demo for newcomers, `tools/quickstart`: without a relay, and through a relay that delays and
limits the traffic like a site's network line.

    python -m benchmarks.demo [--quick] [--json FILE]

The image is this machine's own Python with the packages of .venv: its size differs from machine to machine.
"""

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.facts import Facts, gather

CHECKOUT: Final = Path(__file__).resolve().parents[2]
LINES: Final = {"this machine alone": "", "50 ms, 100 Mbit/s": "50,100"}
"""Name of a column -> the argument of --line; empty for no relay."""


class Start(msgspec.Struct, frozen=True):
    """One start of the demo's program."""

    line: str
    how: str
    first_output: float
    """Seconds."""
    result: float
    """Seconds."""
    requests: int
    bytes_from_origin: int


class Result(msgspec.Struct, frozen=True):
    benchmark: str
    command: str
    facts: Facts
    files: int
    unpacked_bytes: int
    compressed_bytes: int
    starts: list[Start]


def quickstart(line: str) -> Any:
    """Runs tools/quickstart with `--line LINE`, or without a relay if `line` is empty. Returns the decoded
    JSON that it prints."""
    argv = ["tools/quickstart", *(["--line", line] if line else []), "--json"]
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT)
    return json.loads(done.stdout)


def starts(line: str, told: Any) -> list[Start]:
    """Returns the starts that `told`, the JSON of tools/quickstart, contains; `line` is their line."""
    found = []
    for start in told["starts"]:
        traffic = start["traffic"] or {"requests": 0, "sent": 0}
        timed = start["timed"]
        found.append(
            Start(
                line,
                start["how"],
                timed["first_output"],
                timed["result"],
                traffic["requests"],
                traffic["sent"],
            )
        )
    return found


def document(result: Result) -> str:
    """Returns the table as Markdown: a row for each kind of start."""
    lines = list(dict.fromkeys(start.line for start in result.starts))
    cells = {(start.how, start.line): start for start in result.starts}
    heads = [f"{line}: first output, result" for line in lines]
    rows = [f"| | {' | '.join(heads)} | requests | MB |", "|---|" + "---:|" * (len(lines) + 2)]
    for how in dict.fromkeys(start.how for start in result.starts):
        seconds = [
            f"{cells[how, each].first_output:.1f} s, {cells[how, each].result:.1f} s" for each in lines
        ]
        last = cells[how, lines[-1]]
        rows.append(
            f"| {how} | {' | '.join(seconds)} | {last.requests} | {last.bytes_from_origin / 1e6:.1f} |"
        )
    facts = result.facts
    return "\n".join(
        [
            *rows,
            "",
            f"Command: `{result.command}`, at commit {facts.commit}; one run each. {facts.cpu}, "
            f"{facts.cores} cores. The image: {result.files:,} files, {result.unpacked_bytes / 1e6:.0f} MB, "
            f"{result.compressed_bytes / 1e6:.0f} MB as layers.",
        ]
    )


def main() -> None:
    """Reads the command line, runs the demo on each line, and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo")
    parser.add_argument("--quick", action="store_true", help="on this machine alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the result is written")
    options = parser.parse_args()
    told = {name: quickstart(line) for name, line in LINES.items() if not (options.quick and line)}
    image = next(iter(told.values()))["image"]
    result = Result(
        "demo",
        "python -m benchmarks.demo" + (" --quick" if options.quick else ""),
        gather(CHECKOUT),
        image["files"],
        image["plain_bytes"],
        image["compressed_bytes"],
        [start for line, figures in told.items() for start in starts(line, figures)],
    )
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
    print(document(result))


if __name__ == "__main__":
    main()
