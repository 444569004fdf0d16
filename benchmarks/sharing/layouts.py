"""OCI layouts made of the analysis image: its layers stacked, one rebuilt, and bases that share files."""

import gzip
import io
import json
import random
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final, cast

from benchmarks.oci_layout import TAG_FIELD, Layer, Layout
from benchmarks.startup.images import TAG, BenchmarkImage

CHANGED: Final = 10
"""The number of files that are changed in a rebuilt layer."""
SHARE: Final = 0.6
"""Fraction of the packages that each base has. Of the files that two bases have together, about two fifths
are in both."""
_LEVEL: Final = 1
"""The level of gzip, the quickest: only the sizes of the store are measured, not those of the layers."""
_LIBRARIES: Final = "usr/local/lib/python3.11/dist-packages"


def layers_of(image: BenchmarkImage) -> list[Layer]:
    """Returns the layers of an image, the lowest first."""
    layout = Path(image.layout)
    index = json.loads((layout / "index.json").read_text())
    named = next(one for one in index["manifests"] if one["annotations"][TAG_FIELD] == TAG)
    blobs = layout / "blobs/sha256"
    manifest = json.loads((blobs / named["digest"].removeprefix("sha256:")).read_text())
    config = json.loads((blobs / manifest["config"]["digest"].removeprefix("sha256:")).read_text())
    return [
        Layer(one["digest"], one["size"], diff_id)
        for one, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True)
    ]


def stacked(image: BenchmarkImage, place: Path) -> Layout:
    """Makes `stack1` of the image's lowest layer, `stack2` of its two lowest layers, and so on. Also makes
    `rebuilt`, which is the whole image with CHANGED small files of its top layer changed."""
    layout, layers = Layout(place, _LEVEL), layers_of(image)
    for layer in layers:
        layout.link(Path(image.layout) / "blobs/sha256" / layer.digest.removeprefix("sha256:"))
    for count in range(1, len(layers) + 1):
        _add(layout, f"stack{count}", layers[:count])
    with gzip.open(layout.blob(layers[-1].digest)) as before, (place / "tar").open("w+b") as after:
        _rebuild(cast(IO[bytes], before), after)
        after.seek(0)
        _add(layout, "rebuilt", [*layers[:-1], layout.layer(after)])
    (place / "tar").unlink()
    return layout


def _add(layout: Layout, name: str, layers: Sequence[Layer]) -> None:
    """Adds an image to the layout. Its configuration holds its name: no two images of a layout are equal."""
    layout.add(name, layers, {"Labels": {"name": name}})


def _rebuild(before: IO[bytes], after: IO[bytes]) -> None:
    """Copies a tar archive, and appends a line to CHANGED of its Python files, chosen at random."""
    with tarfile.open(fileobj=before, mode="r:") as read:
        members = list(read)
        sources = [one for one in members if one.isreg() and one.name.endswith(".py") and one.size > 1000]
        chosen = set(random.Random(7).sample([one.name for one in sources], CHANGED))
        with tarfile.open(fileobj=after, mode="w:", format=tarfile.PAX_FORMAT) as written:
            for member in members:
                content = read.extractfile(member) if member.isreg() else None
                if content is not None and member.name in chosen:
                    data = content.read() + b"\n# changed\n"
                    member.size, content = len(data), io.BytesIO(data)
                written.addfile(member, content)


def bases(tree: Path, place: Path, count: int) -> Layout:
    """Makes images `base0`, `base1` and so on. Each has a single layer with a random SHARE of the Debian
    packages and wheels of an unpacked image. So they share files, but no layer."""
    layout = Layout(place, _LEVEL)
    packages = [*_debian(tree), *_wheels(tree)]
    for number in range(count):
        chosen = random.Random(number).sample(packages, round(len(packages) * SHARE))
        listed = place / "files"
        listed.write_text("".join(f"./{name}\n" for name in sorted(set().union(*chosen))))
        layer = layout.layer_of(tree, "--no-recursion", "-T", str(listed))
        _add(layout, f"base{number}", [layer])
        listed.unlink()
    return layout


def _debian(tree: Path) -> Iterator[set[str]]:
    """Yields the paths of each Debian package."""
    for listed in sorted((tree / "var/lib/dpkg/info").glob("*.list")):
        names = (line.lstrip("/") for line in listed.read_text().splitlines())
        yield {name for name in names if name not in ("", ".") and _is_there(tree / name)}


def _wheels(tree: Path) -> Iterator[set[str]]:
    """Yields the paths of each wheel's files."""
    libraries = tree / _LIBRARIES
    for record in sorted(libraries.glob("*.dist-info/RECORD")):
        names = (line.split(",")[0] for line in record.read_text().splitlines())
        yield {f"{_LIBRARIES}/{name}" for name in names if ".." not in name and _is_there(libraries / name)}


def _is_there(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def remove(layout: Layout) -> None:
    """Deletes a layout."""
    shutil.rmtree(layout.path)
