"""A set of images like a site's: all have the same Debian, groups share a stack of Python packages, and each
has a package of its own."""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.publish.image import install, pack_layer, write_blob
from tests.support.debian import root_filesystem

STACKS = (("numpy", "scipy"), ("numpy", "pandas"), ("matplotlib", "pillow"), ("scikit-learn", "joblib"))
"""The packages of each layer that two images share."""
OWN = ("requests", "sympy", "networkx", "jinja2", "sqlalchemy", "cryptography", "lxml", "h5py")
"""The package in the layer that only one image has, for each image."""


def make(directory: Path, images: int) -> tuple[Path, list[str]]:
    """Makes an OCI layout with the first `images` images of the set; returns its path and the images' tags.
    Raises CalledProcessError if a package cannot be downloaded."""
    layout = directory / "layout"
    (layout / "blobs/sha256").mkdir(parents=True)
    layers = {"debian": pack_layer(layout, root_filesystem())}
    manifests = []
    tags = list(OWN[:images])
    for number, own in enumerate(tags):
        stack = STACKS[number * len(STACKS) // len(OWN)]
        for packages in (stack, (own,)):
            if "+".join(packages) not in layers:
                tree = directory / "trees" / "+".join(packages)
                install(tree, *packages)
                layers["+".join(packages)] = pack_layer(layout, tree)
        manifests.append(_manifest(layout, own, [layers[one] for one in ("debian", "+".join(stack), own)]))
        print(f"image {own}", file=sys.stderr)
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": manifests}))
    return layout, tags


def _manifest(layout: Path, tag: str, layers: list[tuple[dict[str, object], str]]) -> dict[str, Any]:
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["python3", "-c", f"import {tag}"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": write_blob(layout, json.dumps(config).encode(), "config.v1+json"),
        "layers": [descriptor for descriptor, _ in layers],
    }
    named = write_blob(layout, json.dumps(manifest).encode(), "manifest.v1+json")
    return {**named, "annotations": {"org.opencontainers.image.ref.name": tag}}


def as_layout(copied: Path, layout: Path, tag: str) -> str:
    """Makes an OCI layout, by links, of an image that `skopeo sync` has copied; returns LAYOUT:TAG."""
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)
    manifest = (copied / "manifest.json").read_bytes()
    for descriptor in [json.loads(manifest)["config"], *json.loads(manifest)["layers"]]:
        digits = descriptor["digest"].removeprefix("sha256:")
        if not (blobs / digits).exists():
            (blobs / digits).hardlink_to(copied / digits)
    named = write_blob(layout, manifest, "manifest.v1+json")
    named["annotations"] = {"org.opencontainers.image.ref.name": tag}
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    return f"{layout}:{tag}"
