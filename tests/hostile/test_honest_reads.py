"""Reads of an honest repository, while a program makes every kind of request to a hostile one in the same
mount.

Any busy neighbour takes processor time from the reader: on two cores, an endless loop alone doubles the time
of these reads. So each round is compared with one in which the same program uses an honest image.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lazyfs.daemon.session_choice import KINDS
from tests.support.hostile_site import Site, honest_repository, hostile_repository, mounted
from tests.support.kernel_caches import drop_kernel_caches
from tests.support.measured import Measured

pytestmark = [pytest.mark.root, pytest.mark.alone, pytest.mark.long]

ROUNDS = 9
MOST = 2.0
"""Upper bound on a ratio: the median time of honest reads beside a hostile neighbour, divided by their median
time beside an honest one."""
_ATTACK = """
import sys
from pathlib import Path
from tests.support.hostile_site import attack
print("begun", flush=True)
while True:
    for image in sorted(Path(sys.argv[1]).glob("*/*")):
        attack(image, 400)
"""


@contextmanager
def beside(site: Site, repository: str) -> Iterator[None]:
    """Runs a program that makes every kind of request to a repository, again and again, during the block."""
    command = [sys.executable, "-c", _ATTACK, str(site.mnt / repository)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        try:
            yield
        finally:
            process.kill()


def seconds(site: Site) -> float:
    """Returns the seconds for three complete reads of the honest repository, from an empty page cache."""
    drop_kernel_caches(1)
    started = time.perf_counter()
    for _ in range(3):
        site.honest()
    return time.perf_counter() - started


@pytest.mark.timeout(900)
@pytest.mark.parametrize("session", KINDS)
def test_they_take_at_most_twice_as_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session: str, measured: Measured
) -> None:
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / "run").mkdir(mode=0o700)
    honest, hostile = honest_repository(tmp_path / "honest"), hostile_repository(tmp_path / "hostile", 20)
    with mounted(tmp_path, session, honest, hostile) as site:
        seconds(site)
        times: dict[str, list[float]] = {"alone": [], "honest": [], "hostile": []}
        for _ in range(ROUNDS):
            times["alone"].append(seconds(site))
            for neighbour in ("honest", "hostile"):
                with beside(site, neighbour):
                    times[neighbour].append(seconds(site))
        medians = {name: statistics.median(found) for name, found in times.items()}
        measured(", ".join(f"{name} {found:.3f} s" for name, found in medians.items()))
        assert medians["hostile"] <= MOST * medians["honest"]
