"""Recorded cold starts: the objects that a real start fetched, in order, and what the start cost."""

import re
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from benchmarks.startup.plan import LOCAL, PODMAN
from benchmarks.startup.plan import SIF as SIF_SIDE
from benchmarks.startup.services import Line
from benchmarks.startup.workloads import WORKLOADS

RECORDED: Final = Path(__file__).with_name("starts.json")
_STARTUP: Final = Path(__file__).parents[1] / "results/startup.json"
PULL, SIF, FILES, PACKS, PROFILES = "pull", "SIF", "files", "packs", "profiles"
VARIANTS: Final = (FILES, PACKS, PROFILES)
"""One object per file, as CVMFS stores them; packs; packs and a profile."""
_DATA: Final = re.compile(r"/data/([0-9a-f]{2})/([0-9a-f]{62})$")


class Fetch(msgspec.Struct, frozen=True, array_like=True):
    """One object that a start fetched."""

    name: str
    stored: int
    """Bytes of the answer's body."""
    plain: int
    """Bytes in the node's cache."""
    wave: int
    """Number of the wait in which it was fetched: the requests of a wave were under way together."""


class Recorded(msgspec.Struct, frozen=True):
    """One cold start of a program over one way of storing its image."""

    program: str
    variant: str
    fetches: list[Fetch]
    metadata: int
    """Requests for signed metadata."""
    cpu_cold: float
    """Processor seconds of the cold start."""
    cpu_warm: float
    """Processor seconds of the same start from a warm node cache."""


class Pulled(msgspec.Struct, frozen=True):
    """What other ways of bringing the same image transfer."""

    image: str
    compressed_bytes: int
    layers: int
    sif_bytes: int
    unpacked_bytes: int


class Service(msgspec.Struct, frozen=True):
    """Processor time of one server, measured with requests of two sizes."""

    request: float
    """Seconds for one request."""
    byte: float
    """Seconds for one byte of an answer."""


class Recording(msgspec.Struct, frozen=True):
    """Everything that a simulation takes from real programs and servers."""

    commit: str
    starts: list[Recorded]
    images: list[Pulled]
    squid: Service
    nginx: Service

    def start(self, program: str, variant: str) -> Recorded:
        """Returns one recorded start. Raises KeyError if there is none."""
        for start in self.starts:
            if (start.program, start.variant) == (program, variant):
                return start
        raise KeyError(f"no start of {program} with {variant}")


class _Start(msgspec.Struct, frozen=True):
    cpu_seconds: float


class _Case(msgspec.Struct, frozen=True):
    line: Line
    workload: str
    side: str
    starts: list[_Start]


class _Startup(msgspec.Struct, frozen=True):
    """What is taken from the result of the startup benchmark, which may be of an earlier commit."""

    cases: list[_Case]


def load(path: Path = RECORDED, startup: Path = _STARTUP) -> Recording:
    """Reads a recording. Adds the starts of pulled images and SIF files, whose processor time the result of
    the startup benchmark has."""
    recording = msgspec.json.decode(path.read_bytes(), type=Recording)
    result = msgspec.json.decode(startup.read_bytes(), type=_Startup)
    whole = [
        _whole(result, start, variant, side)
        for start in recording.starts
        if start.variant == PACKS
        for variant, side in ((PULL, PODMAN), (SIF, SIF_SIDE))
    ]
    return msgspec.structs.replace(recording, starts=recording.starts + whole)


def _whole(result: _Startup, start: Recorded, variant: str, side: str) -> Recorded:
    """Returns the processor time of a program whose image is brought whole. A program that was not started
    so costs what another program of its image did to bring the image, and its own warm start."""
    workload = image_of(start.program)
    local = _cpu(result, workload, LOCAL)
    warm = local if start.program == workload else start.cpu_warm
    return Recorded(start.program, variant, [], 0, warm + _cpu(result, workload, side) - local, warm)


def image_of(program: str) -> str:
    """Returns the name of the benchmark image that a program is started from."""
    return WORKLOADS[program].image


def _cpu(result: _Startup, workload: str, side: str) -> float:
    rows = [case for case in result.cases if (case.workload, case.side) == (workload, side) and case.starts]
    return median(start.cpu_seconds for start in min(rows, key=lambda case: case.line.rtt_ms).starts)


class Logged(msgspec.Struct, frozen=True):
    """One line of the origin's log."""

    at: float
    """Unix time in seconds at which the request came."""
    status: int
    size: int
    path: str

    @property
    def name(self) -> str:
        """Returns the digest of the requested object; empty for other files."""
        found = _DATA.search(self.path)
        return found[1] + found[2] if found else ""


def read_log(text: str) -> list[Logged]:
    """Reads an origin's log with lines of time at the end, seconds taken, status, body bytes, path. Returns
    the requests in the order in which they came."""
    found = []
    for line in text.splitlines():
        ended, took, status, size, path = line.split(" ", 4)
        found.append(Logged(float(ended) - float(took), int(status), int(size), path))
    return sorted(found, key=lambda one: one.at)


def fetches(log: list[Logged], plain: dict[str, int], gap: float) -> list[Fetch]:
    """Returns the objects of a log, each once, under their digests. A request that came more than `gap`
    seconds after the one before it begins a new wave."""
    found: dict[str, Fetch] = {}
    wave, last = 0, float("-inf")
    for one in log:
        wave += one.at - last > gap
        last = one.at
        if one.name and one.name not in found and one.status == 200:
            found[one.name] = Fetch(one.name, one.size, plain[one.name], wave)
    return list(found.values())
