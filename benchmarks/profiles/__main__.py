"""Cold starts with profiles that nobody recorded, over a line of 50 ms and 100 Mbit/s.

    python -m benchmarks.profiles [--quick] [--repeats N] [--json FILE]

Guessed profiles are compared with packs alone, for three programs. The profile that a new tag inherits is
compared with one that was recorded for it, and a worker that has started the old tag fetches the rest of the
new one. The sides take turns. The exit code tells if a bound was missed. Needs root, nginx, umoci,
debootstrap and bubblewrap. The images are made by the first run, which takes some minutes more.
"""

import argparse
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from benchmarks import BOUND_MISSED
from benchmarks.facts import gather
from benchmarks.profiles import next_tag
from benchmarks.profiles.images import PROGRAMS, PYTHON, Program, layout_of
from benchmarks.profiles.report import GUESSED, INHERITED, OWN, PACKS, WARM, bounds, document
from benchmarks.profiles.result import Guessed, Inherited, Result, Row
from benchmarks.profiles.stores import BenchmarkStore, place_of
from benchmarks.startup import services
from benchmarks.startup.images import TAG
from benchmarks.startup.services import Line, Relayed
from benchmarks.startup.sides import Lazyfs, Place, Step, bubblewrap
from benchmarks.startup.start import Start, run_start

_CHECKOUT: Final = Path(__file__).parents[2]
LINE: Final = Line(50, 100)
REPEATS: Final = 5
WITHOUT_GUESSES: Final = (
    "import runpy; from lazyfs.prefetch.guesses import Guesses; "
    "Guesses.add = lambda *_: None; runpy.run_module('lazyfs', run_name='__main__')"
)
"""Runs lazyfs without the guesses that mounts make by themselves."""


class ProfileSide(Lazyfs):
    """A start of one tag of an image from one store."""

    def __init__(self, name: str, store: BenchmarkStore, *, tag: str = TAG, guesses: bool = True) -> None:
        super().__init__(name, store.trust, store=store.path.name)
        self._tag = tag
        self._guesses = guesses

    def fetch(self, place: Place) -> Sequence[Step]:
        (step,) = super().fetch(place)
        if self._guesses:
            return [step]
        at = step.argv.index("-m")
        return [Step([*step.argv[:at], "-c", WITHOUT_GUESSES, *step.argv[at + 2 :]], step.env)]

    def run(self, place: Place, command: Sequence[str]) -> Step:
        return bubblewrap(f"{self._mountpoint(place)}/{place_of(place.image, self._tag)}", command)


class Profiles:
    """One run of the benchmark."""

    def __init__(self, stack: ExitStack, work: Path, programs: Sequence[Program]) -> None:
        """Makes the stores and starts the servers, which run until the stack is closed."""
        self._work = work
        self._programs = programs
        self._files = work / "files"
        self._files.mkdir()
        self.guessed: list[Guessed] = []
        self._turns: list[tuple[Program, str, Callable[[Path], Start]]] = []
        self._make_guessed()
        self.inherited = self._make_inherited()
        nginx = stack.enter_context(services.nginx(self._files, work))
        self._relayed: Relayed = stack.enter_context(services.relay(LINE, [nginx], work))
        self._origin = f"127.0.0.1:{self._relayed.port(nginx)}"

    def _store(self, name: str) -> BenchmarkStore:
        return BenchmarkStore.make(self._files / name, self._work / f"keys-{name}")

    def _make_guessed(self) -> None:
        plain, guessed = self._store("plain"), self._store("guessed")
        packs = ProfileSide(PACKS, plain, guesses=False)
        for program in self._programs:
            plain.publish(layout_of(program), program.name)
            guessed.publish(layout_of(program), program.name, "--guess-profile")
            trace = self._work / f"{program.name}.trace"
            plain.trace(program.command, program.name, trace)
            image = guessed.image(program.name)
            size = sum(ref.size for ref in image.listed())
            self.guessed.append(Guessed(program.name, size, image.wasted(trace)))
            for side in (packs, ProfileSide(GUESSED, guessed)):
                self._turns.append((program, side.name, self._cold(side, program)))

    def _make_inherited(self) -> Inherited:
        program, tags = PYTHON, self._store("tags")
        layout, traces = layout_of(program), [self._work / f"{tag}.trace" for tag in (TAG, next_tag.NEXT)]
        tags.publish(layout, program.name)
        tags.trace(program.command, program.name, traces[0])
        tags.profile(program.name, traces[0])
        old = tags.image(program.name)
        new_layout = next_tag.make(layout, old.paths(traces[0]), self._work)
        tags.publish(new_layout, program.name, tag=next_tag.NEXT)
        tags.trace(program.command, program.name, traces[1], tag=next_tag.NEXT)
        own = tags.copy(self._files / "own")
        own.profile(program.name, traces[1], tag=next_tag.NEXT)
        inherited = ProfileSide(INHERITED, tags, tag=next_tag.NEXT)
        recorded = ProfileSide(OWN, own, tag=next_tag.NEXT)
        for side in (inherited, recorded):
            self._turns.append((program, side.name, self._cold(side, program)))
        before = ProfileSide("old tag", tags)
        self._turns.append((program, WARM, self._warm(before, inherited, program)))
        new, here = tags.image(program.name, next_tag.NEXT), old.digests()
        touched = new.touched(traces[1])
        changed = [one for one in touched if one.ref.digest not in here]
        return Inherited(
            touched=len(touched),
            changed=len(changed) / len(touched),
            ahead=new.ahead(traces[1]),
            changed_bytes=new.stored(changed),
        )

    def _cold(self, side: ProfileSide, program: Program) -> Callable[[Path], Start]:
        return lambda directory: self._start(side, program, directory)

    def _warm(self, before: ProfileSide, side: ProfileSide, program: Program) -> Callable[[Path], Start]:
        def start(directory: Path) -> Start:
            self._start(before, program, directory)
            return self._start(side, program, directory)

        return start

    def _start(self, side: ProfileSide, program: Program, directory: Path) -> Start:
        place = Place(str(directory), program.name, self._origin)
        return run_start(side, program.workload, place, self._relayed)

    def rows(self, repeats: int) -> list[Row]:
        """Makes all starts, one of each side in turn, and returns them. Each turn begins with another
        side."""
        found = [Row(program.name, side, []) for program, side, _ in self._turns]
        count = len(self._turns)
        for repeat in range(repeats):
            for at in [(repeat + number) % count for number in range(count)]:
                directory = self._work / "worker"
                directory.mkdir()
                start = self._turns[at][2](directory)
                subprocess.run(["rm", "-rf", "--one-file-system", str(directory)], check=True)
                found[at].starts.append(start)
                row = f"{repeat + 1}/{repeats}  {found[at].program}, {found[at].side}"
                print(f"{row}: {start.seconds:.2f} s, {start.requests} requests", file=sys.stderr, flush=True)
        return found


def main() -> int:
    """Reads the command line and measures; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiles")
    parser.add_argument("--quick", action="store_true", help="the Python image only, two repeats")
    parser.add_argument("--repeats", type=int, metavar="N", help=f"default {REPEATS}; 2 with --quick")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the result is written")
    options = parser.parse_args()
    programs = (PYTHON,) if options.quick else PROGRAMS
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lazyfs-profiles-")))
        work.chmod(0o755)
        run = Profiles(stack, work, programs)
        rows = run.rows(options.repeats or (2 if options.quick else REPEATS))
    command = shlex.join(["python", "-m", "benchmarks.profiles", *(["--quick"] if options.quick else [])])
    facts = gather(_CHECKOUT)
    result = Result("profiles", command, facts, str(LINE), run.guessed, run.inherited, rows)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    print(document(result))
    return 0 if all(one.kept for one in bounds(result)) else BOUND_MISSED


if __name__ == "__main__":
    sys.exit(main())
