"""The images that are started: a small shell, and a Python analysis stack of more than 1 GB when unpacked.

Both are OCI layouts, made on this machine from Debian packages and pinned wheels. They are built once and
kept below the system's temporary directory, because debootstrap and 60 wheels take two minutes.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.startup import layers

TAG: Final = "v1"


class BenchmarkImage(msgspec.Struct, frozen=True):
    """A built image and facts about it."""

    name: str
    layout: str
    """Path of the OCI layout, in which the image has the tag TAG."""
    entries: int
    unpacked_bytes: int
    """Total size of the files' contents, with each hardlink group counted once."""
    compressed_bytes: int
    """Total size of all blobs, which is what a pull transfers."""
    layers: int

    def without_place(self) -> "BenchmarkImage":
        """Returns a copy without the path of the layout, because a committed result must not contain paths of
        a machine."""
        return msgspec.structs.replace(self, layout="")


def kept_directory() -> Path:
    """Returns the directory for built images and other files that are kept between runs."""
    kept = Path(tempfile.gettempdir()) / f"lazyfs-kept-{os.getuid()}"
    kept.mkdir(mode=0o755, exist_ok=True)
    return kept


def shell_image() -> BenchmarkImage:
    """Builds an image of busybox with its 300 commands: one layer, 2 MB. Returns the kept one if it
    exists."""
    return _kept("shell", [layers.shell])


def analysis_image() -> BenchmarkImage:
    """Makes an image of Debian, Python, numpy, scipy and pandas, with the libraries of an analysis on top:
    four layers, > 1 GB."""
    return _kept("analysis", [layers.debian, layers.python, layers.base_wheels, layers.other_wheels])


def _kept(name: str, recipe: list[Callable[[Path], None]]) -> BenchmarkImage:
    written = [layers.WHEELS, layers.PROGRAM, Path(layers.__file__)]
    key = hashlib.sha256(b"".join(path.read_bytes() for path in written)).hexdigest()[:12]
    directory = kept_directory() / f"image-{name}-{key}"
    facts = directory / "facts.json"
    if not facts.is_file():
        fresh = Path(tempfile.mkdtemp(prefix=f"image-{name}-", dir=kept_directory()))
        try:
            built = _build(name, fresh, directory, recipe)
            (fresh / "facts.json").write_bytes(msgspec.json.encode(built))
            shutil.rmtree(directory, ignore_errors=True)
            fresh.rename(directory)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return msgspec.json.decode(facts.read_bytes(), type=BenchmarkImage)


def _build(name: str, work: Path, final: Path, recipe: list[Callable[[Path], None]]) -> BenchmarkImage:
    layout, bundle = work / "layout", work / "bundle"
    image = f"{layout}:{TAG}"
    _umoci("init", "--layout", str(layout))
    _umoci("new", "--image", image)
    _umoci("unpack", "--image", image, str(bundle))
    root = bundle / "rootfs"
    for layer in recipe:
        layer(root)
        _umoci("repack", "--refresh-bundle", "--image", image, str(bundle))
    _umoci("config", "--image", image, "--config.env", "PATH=/usr/local/bin:/usr/bin:/bin")
    _umoci("gc", "--layout", str(layout))
    entries, unpacked = _census(root)
    shutil.rmtree(bundle)
    blobs = [blob.stat().st_size for blob in (layout / "blobs/sha256").iterdir()]
    return BenchmarkImage(name, str(final / "layout"), entries, unpacked, sum(blobs), len(recipe))


def _umoci(*arguments: str) -> None:
    subprocess.run(["umoci", "--log=error", *arguments], check=True)


def _census(root: Path) -> tuple[int, int]:
    entries = unpacked = 0
    seen: set[int] = set()
    for directory, folders, files in os.walk(root):
        entries += len(folders) + len(files)
        for name in files:
            status = os.lstat(os.path.join(directory, name))
            if status.st_ino not in seen:
                seen.add(status.st_ino)
                unpacked += status.st_size
    return entries, unpacked
