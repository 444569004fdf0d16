"""Runs the benchmarks, writes their results, and compares counts with the last committed ones.

    python -m benchmarks [--quick] [--results DIR] [NAME...] [-- OPTION...]

Each benchmark writes NAME[-quick].json with its figures and facts about the machine, NAME[-quick].md with its
tables, and its plots. Options after `--` go to the benchmark, as in
`startup -- --only java`; the rows of its result that they leave out stay as they are. The exit code is 1 if a
benchmark has failed, or if a count is more than 5% above the committed result. Times are never compared.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks import BOUND_MISSED
from benchmarks.compare import counts, worse
from benchmarks.pages import refresh

_CHECKOUT: Final = Path(__file__).parents[1]
_RESULTS: Final = _CHECKOUT / "benchmarks/results"
ORDER: Final = (
    *("startup", "demo", "run", "filesystem", "cache", "publish", "sync", "http", "miss", "scale", "site"),
    *("mount", "processes", "profiles", "proxy", "chunks", "packs", "sharing", "anywhere"),
)
FULL_ONLY: Final = ("mount", "processes", "profiles", "proxy", "chunks", "packs", "sharing", "anywhere")
"""Benchmarks that --quick skips: those written for a single design decision, those that need servers which no
other benchmark needs, and those that take minutes even in their quick form."""


def present() -> list[str]:
    """Returns the names of the benchmarks in this checkout."""
    return [name for name in ORDER if (_CHECKOUT / "benchmarks" / name / "__main__.py").is_file()]


def main() -> int:
    """Reads the command line, runs the benchmarks and returns the exit code."""
    parser = argparse.ArgumentParser(prog="tools/bench")
    parser.add_argument("--quick", action="store_true", help="smaller, under ten minutes in all")
    parser.add_argument("--results", type=Path, default=_RESULTS, metavar="DIR", help="where results go")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(present())}; all by default")
    given = sys.argv[1:]
    end = given.index("--") if "--" in given else len(given)
    options = parser.parse_args(given[:end])
    more = given[end + 1 :]
    if more and len(options.names) != 1:
        parser.error("options after -- need the name of one benchmark before them")
    unknown = set(options.names) - set(present())
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(present())}")
    options.results.mkdir(parents=True, exist_ok=True)
    bad = False
    default = [name for name in present() if not (options.quick and name in FULL_ONLY)]
    for name in options.names or default:
        bad |= not _run(name, options.quick, options.results, more)
    if options.results == _RESULTS:
        refresh(_CHECKOUT)
    return int(bad)


def _run(name: str, quick: bool, results: Path, more: list[str]) -> bool:
    stem = f"{name}-quick" if quick else name
    target = results / f"{stem}.json"
    written = _written(target)
    command = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if quick else []), *more]
    command += ["--json", str(target)]
    print(f"bench: {' '.join(['python', *command[1:-2]])}", file=sys.stderr, flush=True)
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True, cwd=_CHECKOUT)
    sys.stdout.write(done.stdout)
    if _written(target) == written:
        print(f"bench: {name} left no result (exit code {done.returncode})", file=sys.stderr)
        return False
    target.with_suffix(".md").write_text(_page(done.stdout, " ".join(["python", *command[1:-2]])))
    if done.returncode == BOUND_MISSED:
        print(f"bench: {name} missed a bound in time or memory: see its tables", file=sys.stderr)
    elif done.returncode:
        print(f"bench: {name} exited {done.returncode}: see its tables", file=sys.stderr)
    grown = worse(_committed(target), counts(json.loads(target.read_text())))
    for line in grown:
        print(f"bench: {stem}{line}", file=sys.stderr)
    return done.returncode in {0, BOUND_MISSED} and not grown


def _written(file: Path) -> int | None:
    """Returns the time of the last change of a file in nanoseconds; None if there is no file."""
    return file.stat().st_mtime_ns if file.is_file() else None


def _page(printed: str, command: str) -> str:
    """Returns a benchmark's output as Markdown, together with the command that produced it."""
    body = printed if "|---" in printed else f"```\n{printed.strip()}\n```\n"
    return body if command in body else f"Command: `{command}`.\n\n{body}"


def _committed(result: Path) -> dict[str, float]:
    """Returns the counts in the last committed result with this file name; an empty dict if there is none."""
    shown = subprocess.run(
        ["git", "-c", "safe.directory=*", "show", f"HEAD:benchmarks/results/{result.name}"],
        check=False,
        capture_output=True,
        cwd=_CHECKOUT,
    )
    return counts(json.loads(shown.stdout)) if shown.returncode == 0 else {}


if __name__ == "__main__":
    sys.exit(main())
