"""A large realistic image, made without a registry: an OCI layout of Debian and layers of Python wheels,
compressed with gzip."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.oci_layout import Layout
from tests.support.debian import root_filesystem

TAG = "bench"
WHEELS = (
    ("numpy", "scipy", "pandas"),
    ("pyarrow", "scikit-learn", "matplotlib"),
    ("torch",),
    ("tensorflow-cpu",),
    ("opencv-python-headless", "vtk"),
    ("xgboost", "catboost"),
)
"""Groups of wheels. One layer is made of each group in turn, until the image is large enough."""
SITE = "usr/local/lib/python3.11/dist-packages"


def make(directory: Path, at_least: int) -> tuple[Path, int]:
    """Makes the layout; returns its path and the total size of the image's files in bytes. Raises
    CalledProcessError if a package cannot be downloaded."""
    layout = Layout(directory / "layout")
    layers, total = [], 0
    for number, tree in enumerate(_trees(directory)):
        total += int(subprocess.run(["du", "-sb", tree], check=True, capture_output=True).stdout.split()[0])
        layers.append(layout.layer_of(tree))
        print(f"layer {number}: {total >> 20} MiB so far", file=sys.stderr)
        if total >= at_least:
            break
    layout.add(TAG, layers, {})
    return layout.path, total


def _trees(directory: Path) -> Iterator[Path]:
    yield root_filesystem()
    for number, packages in enumerate(WHEELS):
        tree = directory / f"wheels{number}"
        install(tree, *packages)
        yield tree


def install(tree: Path, *packages: str) -> None:
    """Downloads Python packages, and unpacks them into a tree where Debian's Python finds them. Raises
    CalledProcessError."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    subprocess.run([*command, "--target", str(tree / SITE), *packages], check=True)
