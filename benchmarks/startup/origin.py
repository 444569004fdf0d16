"""Puts the same images into all servers: a registry, a lazyfs store, and casync chunks."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.startup.images import TAG, BenchmarkImage
from benchmarks.startup.sides import REGISTRY, SIF_OPTIONS, bubblewrap
from benchmarks.startup.workloads import Workload

NAME: Final = "bench.example.org"
OTHERS: Final = 30
"""The number of further names in the lazyfs store, about as many as at a site. With this many names, a mount
prefetches no image's catalog."""


def push(image: BenchmarkImage, registry_port: int) -> None:
    """Copies an image's layout to the registry with skopeo."""
    target = f"docker://127.0.0.1:{registry_port}/{image.name}:{TAG}"
    source = f"oci:{image.layout}:{TAG}"
    subprocess.run(["skopeo", "copy", "--quiet", "--dest-tls-verify=false", source, target], check=True)


def publish(
    images: Sequence[BenchmarkImage],
    root: Path,
    keys: Path,
    store_name: str = "store",
    python: str = sys.executable,
    small: BenchmarkImage | None = None,
) -> Path:
    """Makes a store of these images at root/`store_name`, with the lazyfs of the interpreter `python`. Adds
    the image `small`, by default the first, under OTHERS further names. Returns the root of trust that
    clients need."""
    store = root / store_name
    _lazyfs("repo", "init", str(store), "--name", NAME, "--keys", str(keys), python=python)
    for image in images:
        publish_image(image, store, keys, python=python)
    for number in range(OTHERS):
        publish_image(small or images[0], store, keys, f"other{number:02}", python=python)
    return store / "metadata/1.root.json"


def publish_image(
    image: BenchmarkImage, store: Path, keys: Path, name: str = "", python: str = sys.executable
) -> None:
    """Publishes an image into an existing repository with `lazyfs publish`, by default under the image's own
    name."""
    name = f"{REGISTRY}/{name or image.name}:{TAG}"
    source = f"oci:{image.layout}:{TAG}"
    _lazyfs("publish", source, str(store), "--as", name, "--keys", str(keys), python=python)


def profile(
    workloads: Sequence[Workload],
    root: Path,
    work: Path,
    keys: Path,
    store_name: str = "store",
    python: str = sys.executable,
) -> None:
    """Copies root/`store_name` to root/`profiled-STORE_NAME`. In the copy, gives the image of each workload a
    profile of one start."""
    store, profiled = root / store_name, root / f"profiled-{store_name}"
    subprocess.run(["cp", "-al", str(store), str(profiled)], check=True)
    for workload in workloads:
        name, trace = f"{REGISTRY}/{workload.image}:{TAG}", work / f"{workload.image}.trace"
        with tempfile.TemporaryDirectory(prefix="record-", dir=work) as place:
            mountpoint, cache = f"{place}/mnt", f"{place}/cache"
            Path(mountpoint).mkdir()
            _lazyfs("mount", str(store), mountpoint, "--cache", cache, "--trace", str(trace), python=python)
            try:
                step = bubblewrap(f"{mountpoint}/{name}", workload.command)
                subprocess.run(step.argv, check=True, stdin=subprocess.DEVNULL, capture_output=True)
            finally:
                _lazyfs("umount", mountpoint, python=python)
        _lazyfs(
            "profile", *_make(python), name, str(trace), str(profiled), "--keys", str(keys), python=python
        )


def _make(python: str) -> list[str]:
    """Returns the subcommand of `lazyfs profile` that makes a profile of a trace: `make`, or nothing for
    releases up to af0a6fc, which have no subcommands."""
    shown = subprocess.run(
        [python, "-P", "-m", "lazyfs", "profile", "--help"], check=True, capture_output=True, text=True
    )
    return ["make"] if "\n  make " in shown.stdout else []


def _lazyfs(*arguments: str, python: str = sys.executable) -> None:
    done = subprocess.run(
        [python, "-P", "-m", "lazyfs", *arguments], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"lazyfs {' '.join(arguments)} exited {done.returncode}: {done.stderr}")


def unpack(image: BenchmarkImage) -> str:
    """Unpacks an image with umoci into a tree that is kept beside the image; returns the tree's path."""
    tree = Path(image.layout).parent / "tree"
    if not tree.is_dir():
        with tempfile.TemporaryDirectory(prefix="tree-", dir=tree.parent) as work:
            umoci = ["umoci", "--log=error", "unpack", "--image", f"{image.layout}:{TAG}", f"{work}/bundle"]
            subprocess.run(umoci, check=True)
            Path(f"{work}/bundle/rootfs").rename(tree)
    return str(tree)


def build_sif(image: BenchmarkImage, root: Path, apptainer: str) -> None:
    """Makes a SIF file at root/sif from the layout with apptainer, and keeps it beside the image."""
    kept = Path(image.layout).parent / "image.sif"
    if not kept.is_file():
        with tempfile.TemporaryDirectory(prefix="sif-", dir=kept.parent) as work:
            build = ["build", *SIF_OPTIONS, f"{work}/image.sif", f"oci:{image.layout}"]
            environment = {**os.environ, "APPTAINER_TMPDIR": work, "APPTAINER_CACHEDIR": f"{work}/cache"}
            subprocess.run([apptainer, "--silent", *build], check=True, capture_output=True, env=environment)
            Path(f"{work}/image.sif").rename(kept)
    target = root / "sif"
    target.mkdir(exist_ok=True)
    subprocess.run(["cp", "-l", str(kept), str(target / f"{image.name}.sif")], check=True)


def chunk(image: BenchmarkImage, root: Path) -> None:
    """Makes casync's chunks and index of the unpacked tree at root/casync, and keeps them beside the
    image."""
    kept = Path(image.layout).parent / "casync"
    if not kept.is_dir():
        with tempfile.TemporaryDirectory(prefix="casync-", dir=kept.parent) as work:
            made = Path(work) / "made"
            made.mkdir()
            make = ["casync", "make", f"--store={made}/default.castr", str(made / f"{image.name}.caidx")]
            subprocess.run([*make, unpack(image)], check=True, capture_output=True)
            made.rename(kept)
    target = root / "casync"
    target.mkdir(exist_ok=True)
    subprocess.run(["cp", "-al", f"{kept}/.", str(target)], check=True)
