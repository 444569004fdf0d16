"""The images that are started: a small shell, a Python analysis stack of more than 1 GB when unpacked, and
those of the recipes.

They are OCI layouts, made on this machine from Debian packages and pinned wheels. They are built once and
kept below the system's temporary directory, because debootstrap and 60 wheels take two minutes.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.startup import layers
from benchmarks.startup.recipes import Recipe

TAG: Final = "v1"
Layer = Callable[[Path], None]
"""Writes the content of a layer below a root directory."""


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
    started_in_memory: bool = False
    """True if the worker's disk, from which the image was started, was in memory."""

    def without_place(self, started_in_memory: bool = False) -> "BenchmarkImage":
        """Returns a copy for a result, without the path of the layout, because a committed result must not
        contain paths of a machine."""
        return msgspec.structs.replace(self, layout="", started_in_memory=started_in_memory)


def kept_directory() -> Path:
    """Returns the directory for built images and other files that are kept between runs."""
    kept = Path(tempfile.gettempdir()) / f"lazyfs-kept-{os.getuid()}"
    kept.mkdir(mode=0o755, exist_ok=True)
    return kept


def shell_image() -> BenchmarkImage:
    """Builds an image of busybox with its 300 commands: one layer, 2 MB. Returns the kept one if it
    exists."""
    return _kept("shell", [layers.shell], [])


def analysis_image() -> BenchmarkImage:
    """Makes an image of Debian, Python, numpy, scipy and pandas, with the libraries of an analysis on top:
    four layers, > 1 GB."""
    contents = [layers.debian, layers.python, layers.base_wheels, layers.other_wheels]
    return _kept("analysis", contents, [layers.WHEELS, layers.PROGRAM])


def recipe_image(recipe: Recipe) -> BenchmarkImage:
    """Makes an image of Debian, the recipe's packages, its wheels and its program, a layer each."""
    contents: list[Layer] = [layers.debian, partial(layers.packages, names=recipe.packages)]
    if recipe.wheels:
        contents.append(partial(layers.wheels, requirements=layers.pinned(recipe.wheels)))
    contents.append(partial(layers.program, directory=recipe.program))
    return _kept(recipe.name, contents, recipe.files, " ".join(recipe.packages))


def _kept(name: str, contents: Sequence[Layer], files: list[Path], packages: str = "") -> BenchmarkImage:
    """Returns the image `name` as it was kept, or makes it anew if a file that its layers are made from has
    changed, or the names of its packages."""
    written = [*files, Path(layers.__file__)]
    key = _key(packages.encode(), *(path.read_bytes() for path in written))
    directory = kept_directory() / f"image-{name}-{key}"
    facts = directory / "facts.json"
    if not facts.is_file():
        fresh = Path(tempfile.mkdtemp(prefix=f"image-{name}-", dir=kept_directory()))
        try:
            built = _build(name, fresh, directory, contents)
            (fresh / "facts.json").write_bytes(msgspec.json.encode(built))
            shutil.rmtree(directory, ignore_errors=True)
            fresh.rename(directory)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return msgspec.json.decode(facts.read_bytes(), type=BenchmarkImage)


def _key(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:12]


def _build(name: str, work: Path, final: Path, contents: Sequence[Layer]) -> BenchmarkImage:
    layout, bundle = work / "layout", work / "bundle"
    image = f"{layout}:{TAG}"
    umoci("init", "--layout", str(layout))
    umoci("new", "--image", image)
    umoci("unpack", "--image", image, str(bundle))
    root = bundle / "rootfs"
    for layer in contents:
        layer(root)
        umoci("repack", "--refresh-bundle", "--image", image, str(bundle))
    umoci("config", "--image", image, "--config.env", "PATH=/usr/local/bin:/usr/bin:/bin")
    umoci("gc", "--layout", str(layout))
    entries, unpacked = _census(root)
    shutil.rmtree(bundle)
    blobs = [blob.stat().st_size for blob in (layout / "blobs/sha256").iterdir()]
    return BenchmarkImage(name, str(final / "layout"), entries, unpacked, sum(blobs), len(contents))


def umoci(*arguments: str) -> None:
    """Runs umoci. Raises CalledProcessError."""
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
