"""A large realistic image, made without a registry: an OCI layout of Debian and layers of Python wheels,
compressed with gzip."""

import gzip
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

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
    layout = directory / "layout"
    (layout / "blobs/sha256").mkdir(parents=True)
    layers, diff_ids, total = [], [], 0
    for number, tree in enumerate(_trees(directory)):
        total += int(subprocess.run(["du", "-sb", tree], check=True, capture_output=True).stdout.split()[0])
        descriptor, diff_id = pack_layer(layout, tree)
        layers.append(descriptor)
        diff_ids.append(diff_id)
        print(f"layer {number}: {total >> 20} MiB so far", file=sys.stderr)
        if total >= at_least:
            break
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    manifest = {
        "schemaVersion": 2,
        "config": write_blob(layout, json.dumps(config).encode(), "config.v1+json"),
        "layers": layers,
    }
    named = write_blob(layout, json.dumps(manifest).encode(), "manifest.v1+json")
    named["annotations"] = {"org.opencontainers.image.ref.name": TAG}
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    return layout, total


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


def pack_layer(layout: Path, tree: Path) -> tuple[dict[str, object], str]:
    """Packs a tree into a compressed layer of the layout; returns the layer's descriptor and diff_id."""
    plain = hashlib.sha256()
    made = layout / "layer"
    command = ["tar", "--format=posix", "--sort=name", "--xattrs", "-C", str(tree), "-c", "."]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as tar, gzip.open(made, "wb", 6) as compressed:
        assert tar.stdout is not None
        while part := tar.stdout.read(1 << 20):
            plain.update(part)
            compressed.write(part)
    assert tar.returncode == 0
    with made.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    size = made.stat().st_size
    made.rename(layout / "blobs/sha256" / digest)
    kind = "application/vnd.oci.image.layer.v1.tar+gzip"
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": size}, f"sha256:{plain.hexdigest()}"


def write_blob(layout: Path, data: bytes, kind: str) -> dict[str, object]:
    """Writes a manifest or config; returns its descriptor."""
    digest = hashlib.sha256(data).hexdigest()
    (layout / "blobs/sha256" / digest).write_bytes(data)
    media_type = f"application/vnd.oci.image.{kind}"
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}
