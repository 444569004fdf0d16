"""Finds an image by path, or by name in the repositories mounted on this node."""

import os
from dataclasses import dataclass

from lazyfs.core.errors import UsageError
from lazyfs.system.mountpoint import FSTYPE, mounts


@dataclass(frozen=True, slots=True)
class FoundImage:
    """Where an image is."""

    root: str
    """With every link resolved: a tag that moves does not move a started job."""
    metadata: str | None
    """The directory with its manifest.json and config.json, if it comes from a mounted repository."""


def lazyfs_mounts() -> list[str]:
    """Where repositories are mounted on this node, the latest first."""
    return [mount.mountpoint for mount in reversed(mounts()) if mount.fstype == FSTYPE]


def find(name: str, mounts: list[str]) -> FoundImage:
    """`name` is a path with a slash in front or a dot, or `[REGISTRY/]REPOSITORY[:TAG]` in one of `mounts`.

    Raises UsageError if it is not there or if it is in several places.
    """
    if name.startswith(("/", "./", "../")) or name in (".", ".."):
        root = os.path.realpath(name)
        if not os.path.isdir(root):
            raise UsageError(f"image {name}: no such directory")
        mount = next((m for m in mounts if root.startswith(m.rstrip("/") + "/")), None)
        return FoundImage(root, None if mount is None else _metadata(mount, os.path.abspath(name), root))
    if not mounts:
        raise UsageError(
            f"image {name}: nothing is mounted on this node; run `lazyfs mount` first, or give a path"
        )
    tagged = name if ":" in name.rpartition("/")[2] or "@" in name else f"{name}:latest"
    paths = [path for mount in mounts for path in _candidates(mount, tagged) if os.path.isdir(path)]
    if not paths:
        raise UsageError(f"image {tagged}: not found in {', '.join(mounts)}")
    if len({os.path.realpath(path) for path in paths}) > 1:
        raise UsageError(f"image {tagged} is ambiguous; give one of: {', '.join(paths)}")
    mount = next(m for m in mounts if paths[0].startswith(m.rstrip("/") + "/"))
    root = os.path.realpath(paths[0])
    return FoundImage(root, _metadata(mount, paths[0], root))


def _candidates(mount: str, tagged: str) -> list[str]:
    """As written, or below any registry of the repository; `debian` is `library/debian`, as docker has it."""
    try:
        registries = sorted(name for name in os.listdir(mount) if not name.startswith("."))
    except OSError:  # another user's mount, or one whose daemon is gone
        return []
    names = [tagged] if "/" in tagged else [tagged, f"library/{tagged}"]
    return [os.path.join(mount, registry, name) for registry in ("", *registries) for name in names]


def _metadata(mount: str, path: str, root: str) -> str | None:
    """`.metadata/` repeats the tree of names; an image reached by its digest has its own there too."""
    for place in (path, root):
        inner = os.path.relpath(place, mount)
        metadata = os.path.join(mount, ".metadata", inner)
        if not inner.startswith("..") and os.path.isdir(metadata):
            return metadata
    return None
