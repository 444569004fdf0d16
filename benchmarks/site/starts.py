"""Recorded cold starts: the objects that a real start fetched, in order, and what the start cost."""

import re
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from benchmarks.startup.plan import LOCAL, PODMAN
from benchmarks.startup.plan import SIF as SIF_SIDE
from benchmarks.startup.result import Result

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


def load(path: Path = RECORDED, startup: Path = _STARTUP) -> Recording:
    """Reads a recording. Adds the processor time of pulls and SIF files, which the result of the startup
    benchmark has."""
    recording = msgspec.json.decode(path.read_bytes(), type=Recording)
    result = msgspec.json.decode(startup.read_bytes(), type=Result)
    whole = [
        Recorded(program, variant, [], 0, _cpu(result, program, side), _cpu(result, program, LOCAL))
        for program in {start.program for start in recording.starts}
        for variant, side in ((PULL, PODMAN), (SIF, SIF_SIDE))
    ]
    return msgspec.structs.replace(recording, starts=recording.starts + whole)


def _cpu(result: Result, program: str, side: str) -> float:
    rows = [case for case in result.cases if (case.workload, case.side) == (program, side) and case.starts]
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
