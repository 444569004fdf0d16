"""A set of images like a site's: all have the same Debian, groups share a stack of Python packages, and each
has a package of its own."""

import json
import sys
from pathlib import Path

from benchmarks.oci_layout import Layout
from benchmarks.publish.image import install
from tests.support.debian import root_filesystem

STACKS = (("numpy", "scipy"), ("numpy", "pandas"), ("matplotlib", "pillow"), ("scikit-learn", "joblib"))
"""The packages of each layer that two images share."""
OWN = ("requests", "sympy", "networkx", "jinja2", "sqlalchemy", "cryptography", "lxml", "h5py")
"""The package in the layer that only one image has, for each image."""


def make(directory: Path, images: int) -> tuple[Path, list[str]]:
    """Makes an OCI layout with the first `images` images of the set; returns its path and the images' tags.
    Raises CalledProcessError if a package cannot be downloaded."""
    layout = Layout(directory / "layout")
    layers = {"debian": layout.layer_of(root_filesystem())}
    tags = list(OWN[:images])
    for number, own in enumerate(tags):
        stack = STACKS[number * len(STACKS) // len(OWN)]
        for packages in (stack, (own,)):
            if "+".join(packages) not in layers:
                tree = directory / "trees" / "+".join(packages)
                install(tree, *packages)
                layers["+".join(packages)] = layout.layer_of(tree)
        command = ["python3", "-c", f"import {own}"]
        layout.add(own, [layers[one] for one in ("debian", "+".join(stack), own)], {"Cmd": command})
        print(f"image {own}", file=sys.stderr)
    return layout.path, tags


def as_layout(copied: Path, directory: Path, tag: str) -> str:
    """Makes an OCI layout, by links, of an image that `skopeo sync` has copied; returns LAYOUT:TAG."""
    layout = Layout(directory)
    manifest = (copied / "manifest.json").read_bytes()
    for descriptor in [json.loads(manifest)["config"], *json.loads(manifest)["layers"]]:
        layout.link(copied / descriptor["digest"].removeprefix("sha256:"))
    layout.add_manifest(tag, manifest)
    return f"{directory}:{tag}"
