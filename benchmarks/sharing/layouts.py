"""OCI layouts made of the analysis image: its layers stacked, one rebuilt, and bases that share files."""

import gzip
import hashlib
import io
import json
import random
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, cast

from benchmarks.startup.images import TAG, BenchmarkImage

CHANGED: Final = 10
"""The number of files that are changed in a rebuilt layer."""
SHARE: Final = 0.6
"""Fraction of the packages that each base has. Of the files that two bases have together, about two fifths
are in both."""
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
_LIBRARIES: Final = "usr/local/lib/python3.11/dist-packages"


class Layer(NamedTuple):
    """A compressed layer in a layout."""

    digest: str
    size: int
    diff_id: str


class Layout:
    """A directory of images that share blobs."""

    def __init__(self, directory: Path) -> None:
        self.path = directory
        self._blobs = directory / "blobs/sha256"
        self._blobs.mkdir(parents=True)
        (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self._manifests: list[dict[str, Any]] = []

    def blob(self, digest: str) -> Path:
        """Returns the path of a blob."""
        return self._blobs / digest.removeprefix("sha256:")

    def add(self, name: str, layers: Sequence[Layer]) -> None:
        """Adds an image of these layers under a tag."""
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {"name": name}},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self._written(json.dumps(config).encode(), "config"),
            "layers": [{"mediaType": _LAYER, "digest": layer.digest, "size": layer.size} for layer in layers],
        }
        named = self._written(json.dumps(manifest).encode(), "manifest")
        self._manifests.append(named | {"annotations": {"org.opencontainers.image.ref.name": name}})
        index = {"schemaVersion": 2, "manifests": self._manifests}
        (self.path / "index.json").write_text(json.dumps(index))

    def _written(self, data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (self._blobs / digest).write_bytes(data)
        media_type = f"application/vnd.oci.image.{kind}.v1+json"
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def link(self, blob: Path) -> None:
        """Adds a blob of another layout, as a hardlink."""
        (self._blobs / blob.name).hardlink_to(blob)

    def layer(self, tar: IO[bytes]) -> Layer:
        """Compresses a tar archive into a layer of the layout."""
        plain = hashlib.sha256()
        made = self.path / "layer"
        with gzip.open(made, "wb", 1) as compressed:
            while part := tar.read(1 << 20):
                plain.update(part)
                compressed.write(part)
        with made.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = made.stat().st_size
        made.rename(self._blobs / digest)
        return Layer(f"sha256:{digest}", size, f"sha256:{plain.hexdigest()}")


def layers_of(image: BenchmarkImage) -> list[Layer]:
    """Returns the layers of an image, the lowest first."""
    layout = Path(image.layout)
    index = json.loads((layout / "index.json").read_text())
    named = next(
        one for one in index["manifests"] if one["annotations"]["org.opencontainers.image.ref.name"] == TAG
    )
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
    layout, layers = Layout(place), layers_of(image)
    for layer in layers:
        layout.link(Path(image.layout) / "blobs/sha256" / layer.digest.removeprefix("sha256:"))
    for count in range(1, len(layers) + 1):
        layout.add(f"stack{count}", layers[:count])
    with gzip.open(layout.blob(layers[-1].digest)) as before, (place / "tar").open("w+b") as after:
        _rebuild(cast(IO[bytes], before), after)
        after.seek(0)
        layout.add("rebuilt", [*layers[:-1], layout.layer(after)])
    (place / "tar").unlink()
    return layout


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
    layout = Layout(place)
    packages = [*_debian(tree), *_wheels(tree)]
    for number in range(count):
        chosen = random.Random(number).sample(packages, round(len(packages) * SHARE))
        listed = place / "files"
        listed.write_text("".join(f"./{name}\n" for name in sorted(set().union(*chosen))))
        tar = ["tar", "--format=posix", "--no-recursion", "-C", str(tree), "-T", str(listed), "-c"]
        with subprocess.Popen(tar, stdout=subprocess.PIPE) as made:
            assert made.stdout is not None
            layout.add(f"base{number}", [layout.layer(made.stdout)])
        if made.returncode:
            raise RuntimeError(f"tar exited {made.returncode}")
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
