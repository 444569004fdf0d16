"""Starts the servers, and makes the starts of the plan, one case at a time."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.facts import gather
from benchmarks.startup import origin, plan, services, stores
from benchmarks.startup.disk import Disks
from benchmarks.startup.images import (
    BenchmarkImage,
    analysis_image,
    kept_directory,
    recipe_image,
    shell_image,
)
from benchmarks.startup.installed import installed
from benchmarks.startup.plan import Case
from benchmarks.startup.recipes import RECIPES
from benchmarks.startup.result import Result
from benchmarks.startup.services import Line, Relayed
from benchmarks.startup.sides import (
    ApptainerBuild,
    ApptainerPull,
    Casync,
    Lazyfs,
    Local,
    Place,
    Podman,
    Side,
    Unpack,
)
from benchmarks.startup.start import Start, run_start
from benchmarks.startup.workloads import (
    RANDOM_FILES,
    WORKLOADS,
    Workload,
    with_output,
    with_random_files,
)

_IMAGES: Final[dict[str, Callable[[], BenchmarkImage]]] = {
    "shell": shell_image,
    "analysis": analysis_image,
    **{recipe.name: partial(recipe_image, recipe) for recipe in RECIPES},
}
PASSED_ON = 40
"""The largest number of requests that a warm proxy may pass on to the origin: some for metadata older than a
minute, and objects that this start guessed and the start that warmed the proxy did not. A cold start of the
large image makes some 440 requests."""
_CHECKOUT = Path(__file__).parents[2]
_GET_APPTAINER = _CHECKOUT / "tools/get-apptainer"


class Revision(NamedTuple):
    """An installed revision of lazyfs, which publishes and mounts."""

    label: str
    """The revision's name in the table; empty for this checkout."""
    python: str
    """The interpreter of the environment in which the revision is installed."""

    @property
    def store(self) -> str:
        """Returns the name of the store that this revision has published."""
        return f"store-{self.label}" if self.label else "store"

    def side(self, name: str) -> str:
        """Returns the name that the table shows for the side `name` of this revision."""
        return plan.other(name, self.label) if self.label else name


class Checkout(NamedTuple):
    """A checkout in which tools/setup has been run."""

    label: str
    directory: Path


def checkout(directory: Path) -> Checkout:
    """Returns another checkout, labelled with its commit."""
    return Checkout(gather(directory).commit, directory)


class Bench:
    """Starts the servers, which run until the stack is closed, and makes the starts of the plan."""

    def __init__(
        self, stack: ExitStack, work: Path, cases: list[Case], beside: "Checkout | None" = None
    ) -> None:
        """Prepares the servers. `beside` is the checkout of an older revision. In `cases`, its sides have the
        names that `plan.other` returns."""
        self._stack = stack
        self._work = work
        self._disks = Disks(stack, work)
        names = {WORKLOADS[case.workload].image for case in cases}
        self.images: list[BenchmarkImage] = [make() for name, make in _IMAGES.items() if name in names]
        files = work / "files"
        files.mkdir()
        self._revisions = [
            Revision(label, installed(place, work / f"installed{number}"))
            for number, (label, place) in enumerate([("", _CHECKOUT), *([beside] if beside else [])])
        ]
        profiled = sorted({case.workload for case in cases if plan.PROFILED in case.sides})
        self._trusts = [
            stores.provide(
                files,
                one.store,
                self.images,
                small=shell_image(),
                profiled=[WORKLOADS[name] for name in profiled],
                python=one.python,
            )
            for one in self._revisions
        ]
        apptainer = kept_directory() / "apptainer"
        subprocess.run([_GET_APPTAINER, apptainer], check=True, stdout=subprocess.DEVNULL)
        self._apptainer = str(apptainer / "usr/bin/apptainer")
        for image in self.images:
            if any(
                plan.CASYNC in case.sides for case in cases if WORKLOADS[case.workload].image == image.name
            ):
                origin.chunk(image, files)
        registry = stack.enter_context(services.registry(work))
        for image in self.images:
            origin.push(image, registry)
            origin.build_sif(image, files, self._apptainer)
        self._ports = {"registry": registry, "files": stack.enter_context(services.nginx(files, work))}
        self._squid = stack.enter_context(services.squid(work))
        self._workloads = dict(WORKLOADS)
        if any(case.workload == RANDOM_FILES.name for case in cases):
            (image,) = (image for image in self.images if image.name == RANDOM_FILES.image)
            self._workloads[RANDOM_FILES.name] = with_random_files(origin.unpack(image))
        for image in self.images:
            for workload in list(self._workloads.values()):
                if workload.repeatable and workload.image == image.name:
                    self._workloads[workload.name] = with_output(workload, origin.unpack(image))
        self._relays: dict[Line, Relayed] = {}
        self._warm: set[Path] = set()
        self._sides = {side.name: side for side in self._make_sides()}

    def _make_sides(self) -> list[Side]:
        ours: list[Side] = []
        for one, trust in zip(self._revisions, map(str, self._trusts), strict=True):
            made = partial(Lazyfs, trust=trust, python=one.python)
            ours += [
                made(one.side(plan.COLD), store=one.store),
                made(one.side(plan.PROFILED), store=f"profiled-{one.store}"),
                made(one.side(plan.WARM_NODE), store=one.store),
            ]
        proxy = f"http://127.0.0.1:{self._squid}"
        return [
            *ours,
            Lazyfs(plan.WARM_PROXY, str(self._trusts[0]), proxy=proxy, python=self._revisions[0].python),
            Podman(),
            Unpack(),
            ApptainerBuild(self._apptainer),
            ApptainerPull(self._apptainer),
            Casync(),
            Local({image.name: origin.unpack(image) for image in self.images}),
        ]

    def image(self, name: str) -> BenchmarkImage:
        """Returns the image of this name. Raises KeyError if no case needs it."""
        return {image.name: image for image in self.images}[name]

    def started_images(self) -> list[BenchmarkImage]:
        """Returns the images as they stand in a result."""
        return [image.without_place(self._disks.in_memory(image)) for image in self.images]

    def start(self, case: Case, repeat: int, result: Result) -> list[str]:
        """Starts every side of a case once, as `start_in_turn` does."""
        workload = self._workloads[case.workload]
        return start_in_turn(
            case, repeat, result, lambda side: self._start(case.line, workload, self._sides[side])
        )

    def _relay(self, line: Line) -> Relayed:
        if line not in self._relays:
            work = self._work / f"relay-{len(self._relays)}"
            work.mkdir()
            relay = services.relay(line, list(self._ports.values()), work)
            self._relays[line] = self._stack.enter_context(relay)
        return self._relays[line]

    def _start(self, line: Line, workload: Workload, side: Side) -> Start:
        relayed = self._relay(line)
        address = f"127.0.0.1:{relayed.port(self._ports[side.origin])}"
        kind = str(line).replace(", ", "-").replace(" ", "").replace("/", "")
        disk = self._disks.of(self.image(workload.image))
        warm = disk / f"warm-{kind}-{workload.image}-{workload.name.replace(' ', '-')}"

        def once(directory: Path) -> Start:
            directory.mkdir(exist_ok=True)
            os.sync()  # this side must not wait for the writes of the side before
            return run_start(side, workload, Place(str(directory), workload.image, address), relayed)

        if side.name.startswith(plan.WARM_NODE):
            warm = warm.with_name(warm.name + side.name.removeprefix(plan.WARM_NODE).replace(", at ", "-"))
            if warm not in self._warm:
                self._warm.add(warm)
                once(warm)
            _drop_pages(warm)
            return once(warm)
        proxy_warmed = warm.with_suffix(".proxy")
        if side.name == plan.WARM_PROXY and proxy_warmed not in self._warm:
            self._warm.add(proxy_warmed)
            self._cold(once, disk)
        start = self._cold(once, disk)
        if side.name == plan.WARM_PROXY and start.requests > PASSED_ON:
            raise RuntimeError(f"{line}: the warm proxy asked {start.requests} times for an image it has")
        return start

    def _cold(self, once: Callable[[Path], Start], disk: Path) -> Start:
        directory = disk / "worker"
        try:
            return once(directory)
        finally:
            # rm, because rmtree stops at some contents of images: mode 000, other users, a million names
            subprocess.run(["rm", "-rf", "--one-file-system", str(directory)], check=True)


def start_in_turn(case: Case, repeat: int, result: Result, once: Callable[[str], Start]) -> list[str]:
    """Calls `once` with each side of a case, and adds the starts to the result. The first side is another one
    in each repeat. Returns a line for each side that failed: only its own start is missing then, and not
    those of an hour."""
    failed = []
    first = repeat % len(case.sides)
    for side in case.sides[first:] + case.sides[:first]:
        told = f"{repeat + 1}/{case.repeats}  {case.line}  {case.workload}  {side}: "
        try:
            start = once(side)
        except (RuntimeError, subprocess.SubprocessError) as error:
            failed.append(f"{told}{error}")
            _say(f"{told}FAILED: {error}")
        else:
            result.case(case.line, case.workload, side).starts.append(start)
            _say(f"{told}{_summary(start)}")
    return failed


def _drop_pages(directory: Path) -> None:
    """Makes the kernel drop the cached pages of these files, so that a start finds them on the disk but not
    in memory."""
    for folder, _, files in os.walk(directory):
        for name in files:
            descriptor = os.open(os.path.join(folder, name), os.O_RDONLY)
            try:
                os.fdatasync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def _summary(start: Start) -> str:
    return (
        f"output {start.seconds_to_output:.2f} s, result {start.seconds:.2f} s, "
        f"{start.requests} requests, {start.waits} waits, {start.bytes_from_origin / 1e6:.2f} MB"
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
