"""Small images for the validation: trees of files that share a base, and the same trees a night later."""

import os
import random
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks.site.images import NEW, SHARED
from lazyfs.core.params import Params
from lazyfs.repository import lifecycle

IMAGES: Final = 6
FILES: Final = 240
READ: Final = 60
"""Files that a start reads."""
NAME: Final = "site.example.org"
REGISTRY: Final = "registry.example.org"
PARAMS: Final = Params(
    pack_files=96 << 10, pack_least=24 << 10, pack_target=96 << 10, pack_most=192 << 10
).check()
"""Limits of packs, a tenth of the default ones: so a tree of 5 MB is some 50 objects."""
_ENVIRONMENT: Final = dict(os.environ)


def content(owner: str, number: int) -> bytes:
    """Returns a file's bytes: 1 to 90 KB that do not compress, the same for one owner and number."""
    draw = random.Random(f"{owner} {number}")
    return draw.randbytes(int(1000 * 90 ** draw.random()))


def write(directory: Path, image: int, *, new: bool) -> None:
    """Writes the tree of an image, before or after the night."""
    draw = random.Random(image)
    for number in range(FILES):
        owner = "base" if number < FILES * SHARED else f"image {image}"
        changed = number >= FILES * SHARED and draw.random() < NEW / (1 - SHARED)
        path = directory / f"d{number // 20:02}/f{number:03}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(f"{owner} new" if new and changed else owner, number))


def read_files(image: int) -> list[str]:
    """Returns the paths that a start of the image reads, in order."""
    chosen = sorted(random.Random(f"start {image}").sample(range(FILES), READ))
    return [f"d{number // 20:02}/f{number:03}" for number in chosen]


def publish(store: Path, keys: Path, work: Path, *, new: bool) -> None:
    """Publishes all images into a store, which is made for the first tags."""
    if not new:
        lifecycle.init(str(store), NAME, datetime.now(UTC), keys=str(keys), params=PARAMS)
    for image in range(IMAGES):
        tree = work / f"tree-{image}"
        write(tree, image, new=new)
        lazyfs("publish", f"dir:{tree}", str(store), "--as", place(image), "--keys", str(keys))
        shutil.rmtree(tree)


def place(image: int) -> str:
    """Returns an image's place in the tree."""
    return f"{REGISTRY}/app{image}:latest"


def lazyfs(*arguments: str, before: tuple[str, ...] = (), state: Path | None = None) -> None:
    """Runs a command of lazyfs. Raises RuntimeError if it fails."""
    command = [*before, sys.executable, "-P", "-m", "lazyfs", *arguments]
    extra = {} if state is None else {"XDG_STATE_HOME": str(state)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={**_ENVIRONMENT, **extra})
    if done.returncode:
        raise RuntimeError(f"lazyfs {' '.join(arguments)} exited {done.returncode}: {done.stderr}")
