"""The lazyfs stores of the images. They are kept from one run to the next, because to publish an image and to
record a start of it takes minutes.

A store is kept under the images and programs in it, and under the code that made it: with another lazyfs,
another image or another program it is made anew.
"""

import hashlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.startup import origin
from benchmarks.startup.images import BenchmarkImage, kept_directory
from benchmarks.startup.workloads import Workload

KEPT: Final = 3
"""The largest number of stores of the same images that are kept: this checkout's, another revision's, and one
before a change. The oldest is removed."""
DAYS: Final = 5
"""Days after which a store is made anew. The signature of its newest revision expires after seven."""
_PLAIN: Final = "store"
_PROFILED: Final = "profiled-store"


def provide(
    files: Path,
    name: str,
    images: Sequence[BenchmarkImage],
    *,
    small: BenchmarkImage,
    profiled: Sequence[Workload],
    python: str,
) -> Path:
    """Provides a store of these images at files/`name`. If `profiled` names programs, provides a second one
    at files/profiled-`name`, in which the image of each has a profile of a start. Returns the root of trust
    that clients need.

    `small`: the image of the further names in the store. `python`: the interpreter whose lazyfs publishes.
    """
    kept = _kept(images, small, profiled, python)
    for one, made in ((name, _PLAIN), (f"profiled-{name}", _PROFILED)):
        if (kept / made).is_dir():
            subprocess.run(["cp", "-al", str(kept / made), str(files / one)], check=True)
    return files / name / "metadata/1.root.json"


def _kept(
    images: Sequence[BenchmarkImage], small: BenchmarkImage, profiled: Sequence[Workload], python: str
) -> Path:
    places = [Path(image.layout).parent.name for image in (*images, small)]
    family = f"stores-{_digest(*places)}"
    made_by = _digest(_code(python), repr([(one.name, one.command) for one in profiled]))
    directory = kept_directory() / f"{family}-{made_by}"
    if directory.is_dir() and time.time() - directory.stat().st_mtime < DAYS * 86400:
        return directory
    fresh = Path(tempfile.mkdtemp(prefix="stores-", dir=kept_directory()))
    try:
        origin.publish(images, fresh, fresh / "keys", python=python, small=small)
        if profiled:
            origin.profile(profiled, fresh, fresh, fresh / "keys", python=python)
        shutil.rmtree(directory, ignore_errors=True)
        fresh.rename(directory)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    for old in sorted(kept_directory().glob(f"{family}-*"), key=lambda one: one.stat().st_mtime)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return directory


def _code(python: str) -> str:
    """Returns a digest of the lazyfs that an interpreter runs, and of what publishes with it here."""
    found = "import lazyfs, lazyfs_cache; print(lazyfs.__path__[0]); print(lazyfs_cache.__path__[0])"
    shown = subprocess.run([python, "-P", "-c", found], check=True, capture_output=True, text=True)
    sources = [Path(origin.__file__)]
    for package in shown.stdout.split():
        sources += sorted(Path(package).rglob("*.py"))
    return _digest(*(hashlib.sha256(source.read_bytes()).hexdigest() for source in sources))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
