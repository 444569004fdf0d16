"""Finds an image by path, or by name in the repositories mounted on this node."""

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lazyfs.core.errors import UsageError
from lazyfs.system.bounded_look import ask_each
from lazyfs.system.mountpoint import FSTYPE, Mount, mounts
from lazyfs.system.paths_in_mounts import resolve_among_mounts

LOOK_SECONDS = 30
"""Time for a mount to say if it has a name: the first look over a slow line fetches catalogs."""
PATIENCE_SECONDS = 2
"""Time for the other mounts once one has the name: they can only make it ambiguous."""


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An image's place on the node."""

    root: str
    """With every link resolved: a tag that moves does not move a started job."""
    metadata: str | None
    """The directory with its manifest.json and config.json, if it comes from a mounted repository."""


@dataclass(frozen=True, slots=True)
class NodeMounts:
    """The repositories mounted on this node, the latest first."""

    searched: Sequence[str]
    """Mount points in which names are looked up: root's and the caller's own."""
    foreign: Sequence[str] = ()
    """Those of other users. A name there could be anything; a path into one is the caller's own choice."""


def node_mounts() -> NodeMounts:
    """Lists the mounts there are now, told apart by who has made them."""
    trusted = {0, *_own_numbers(os.getuid())}
    return sort_mounts(mounts(), trusted)


def sort_mounts(found: Iterable[Mount], trusted: set[int]) -> NodeMounts:
    """The mounts of this filesystem; `trusted` are the users whose mounts are searched."""
    ours = [mount for mount in found if mount.fstype == FSTYPE][::-1]
    return NodeMounts(
        tuple(mount.mountpoint for mount in ours if mount.owner in trusted),
        tuple(mount.mountpoint for mount in ours if mount.owner not in trusted),
    )


def _own_numbers(user: int) -> set[int]:
    """The caller's number here, and in the namespace above: mounts made there carry that one."""
    numbers = {user}
    with open("/proc/self/uid_map") as file:
        for line in file:
            here, above, count = (int(word) for word in line.split())
            if here <= user < here + count:
                numbers.add(above + user - here)
    return numbers


def find(name: str, node: NodeMounts) -> FoundImage:
    """`name` is a path with a slash in front or a dot, or `[REGISTRY/]REPOSITORY[:TAG]` in a mount that is
    searched. No mount is waited for longer than LOOK_SECONDS.

    Raises UsageError if it is not there, if it is in several places, and if a link leads out of the mount.
    """
    if name.startswith(("/", "./", "../")) or name in (".", ".."):
        return _find_path(name, [*node.searched, *node.foreign])
    if not node.searched:
        raise UsageError(
            f"image {name}: nothing is mounted on this node{_left_out(node.foreign)}; "
            "run `lazyfs mount` first, or give a path"
        )
    tagged = name if ":" in name.rpartition("/")[2] or "@" in name else f"{name}:latest"
    questions = [partial(_look, mount, tagged, node.searched) for mount in node.searched]
    answers = ask_each(
        questions, LOOK_SECONDS, patience=PATIENCE_SECONDS, enough=lambda value: bool(value["images"])
    )
    images = [image for answer in answers if answer.came for image in answer.value["images"]]
    sources = {mount.mountpoint: mount.source for mount in mounts()}
    if len({_identity(root, sources) for _, root, _ in images}) > 1:
        paths = ", ".join(path for path, _, _ in images)
        raise UsageError(f"image {tagged} is ambiguous; give one of: {paths}")
    if images:
        _, root, metadata = images[0]
        return FoundImage(root, metadata)
    refused = [reason for answer in answers if answer.came for reason in answer.value["refused"]]
    silent = [mount for mount, answer in zip(node.searched, answers, strict=True) if not answer.came]
    if refused:
        raise UsageError(f"image {tagged}: {refused[0]}")
    silence = f"; no answer in {LOOK_SECONDS} s from {', '.join(silent)}" if silent else ""
    raise UsageError(
        f"image {tagged}: not found in {', '.join(node.searched)}{_left_out(node.foreign)}{silence}"
    )


def _identity(root: str, sources: Mapping[str, str]) -> tuple[str, str]:
    """Returns (source, path in it): one repository may be mounted at several places. The mounts say so
    themselves, not the image, which could claim to be another. Of a site, a mount's source says nothing."""
    mount = max((top for top in sources if (root + "/").startswith(top + "/")), key=len, default="")
    source = sources.get(mount, "")
    return (source, os.path.relpath(root, mount)) if source not in ("", "lazyfs") else ("", root)


def _left_out(foreign: Sequence[str]) -> str:
    if not foreign:
        return ""
    return f" (not looked for in mounts of other users: {', '.join(foreign)}; give a path for those)"


def _find_path(name: str, tops: list[str]) -> FoundImage:
    (answer,) = ask_each(
        [partial(_look_at_path, name, tops)], LOOK_SECONDS, patience=0, enough=lambda _: True
    )
    if not answer.came:
        raise UsageError(f"image {name}: its filesystem did not answer in {LOOK_SECONDS} s")
    if "error" in answer.value:
        raise UsageError(f"image {answer.value['error']}")
    return FoundImage(answer.value["root"], answer.value["metadata"])


def _look_at_path(name: str, tops: list[str]) -> dict[str, Any]:
    """In a child: {"root", "metadata"} or {"error"}."""
    try:
        place = resolve_among_mounts(name, tops)
        if not os.path.isdir(place.real):
            return {"error": f"{name}: no such directory"}
        mount = place.mount
        metadata = None if mount is None else _metadata(mount, os.path.abspath(name), place.real, tops)
        return {"root": place.real, "metadata": metadata}
    except UsageError as error:
        return {"error": str(error)}
    except OSError as error:
        absent = error.errno in (errno.ENOENT, errno.ENOTDIR)
        return {"error": f"{name}: {'no such directory' if absent else error.strerror}"}


def _look(mount: str, tagged: str, tops: Sequence[str]) -> dict[str, Any]:
    """In a child: {"images": [[path, root, metadata]], "refused": [reason]} of one mount."""
    images: list[tuple[str, str, str | None]] = []
    refused: list[str] = []
    for path in _candidates(mount, tagged):
        try:
            place = resolve_among_mounts(path, tops)
            if place.mount == (mount.rstrip("/") or "/") and os.path.isdir(place.real):
                images.append((path, place.real, _metadata(mount, path, place.real, tops)))
        except UsageError as error:
            refused.append(str(error))
        except OSError:
            continue
    return {"images": images, "refused": refused}


def _candidates(mount: str, tagged: str) -> list[str]:
    """As written, or below any registry of the repository; `debian` is `library/debian`, as docker has it."""
    try:
        registries = sorted(name for name in os.listdir(mount) if not name.startswith("."))
    except OSError:  # a mount whose daemon is gone
        return []
    names = [tagged] if "/" in tagged else [tagged, f"library/{tagged}"]
    return [os.path.join(mount, registry, name) for registry in ("", *registries) for name in names]


def _metadata(mount: str, path: str, root: str, tops: Sequence[str]) -> str | None:
    """`.metadata/` repeats the tree of names; an image reached by its digest has its own there too."""
    for place in (path, root):
        inner = os.path.relpath(place, mount)
        if inner.startswith(".."):
            continue
        try:
            metadata = resolve_among_mounts(os.path.join(mount, ".metadata", inner), tops)
        except OSError:
            continue
        if os.path.isdir(metadata.real):
            return metadata.real
    return None
