"""Finds an image by path, or by name in the repositories mounted on this node."""

import errno
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.core.image_names import MOST_SIMILAR, candidates, full_name, similar
from lazyfs.core.shown_address import shown_address
from lazyfs.runtimes.image_reference import is_sif
from lazyfs.runtimes.records import NOTHING
from lazyfs.system.bounded_look import ask_each
from lazyfs.system.mount_table import Mount
from lazyfs.system.mountpoint import FSTYPE, mounts
from lazyfs.system.paths_in_mounts import resolve_among_mounts

LOOK_SECONDS = 30
"""Seconds within which a mount has to answer whether it has an image of the wanted name. The mount may have
to fetch catalogs over a slow line."""
PATIENCE_SECONDS = 2
"""Seconds to wait for answers of further mounts after one mount has answered that it has an image of the
name. Further answers could only make the name ambiguous."""
SITE = "lazyfs"
"""The source that the mount table shows for a mount of many repositories."""
_NOT_HERE = "; lazyfs refresh MOUNTPOINT shows what was published just now, lazyfs run docker://NAME pulls"


class NotMounted(UsageError):
    """No mount that answered has an image of this name. Another name may help, or pulling the image."""


class FoundImage(NamedTuple):
    """The paths of an image and its metadata on this node."""

    root: str
    """The image's root filesystem with every link resolved, so that a running job keeps its image when a tag
    moves."""
    metadata: str | None
    """The directory with the image's manifest.json and config.json; None if there is none, as outside of
    repositories."""
    path: str = ""
    """The path at which the image was found, links not followed."""


class NodeMounts(NamedTuple):
    """The repositories mounted on this node, the latest mount first."""

    searched: Sequence[str]
    """Mount points in which names are looked up: root's and the caller's own."""
    foreign: Sequence[str] = ()
    """Mount points of other users. No name is looked up in them, because their owners choose the names
    there; but the caller can give a path into such a mount."""
    sources: Mapping[str, str] = NOTHING
    """Mount point -> source. The same source may be mounted at several places."""
    sites: frozenset[str] = frozenset()
    """Mount points that have a repository in each folder."""


def node_mounts() -> NodeMounts:
    """Returns the present mounts, divided into those of trusted users and those of others. A daemon that root
    started mounts as another user if its settings name one (`user`); its mounts count as root's."""
    trusted = {0, *_own_numbers(os.getuid())}
    return sort_mounts(mounts(), lambda mount: mount.owner in trusted or _is_served_for_root(mount))


def _is_served_for_root(mount: Mount) -> bool:
    from lazyfs.daemon.runtime_directory import is_served_for_root  # a start without such mounts does without

    return is_served_for_root(mount)


def sort_mounts(found: Iterable[Mount], searched: Callable[[Mount], bool]) -> NodeMounts:
    """Returns the mounts of lazyfs among those found. `searched`: returns True for a mount of root's or the
    caller's own."""
    ours = [(mount, searched(mount)) for mount in found if mount.fstype == FSTYPE][::-1]
    return NodeMounts(
        tuple(mount.mountpoint for mount, ours_to_search in ours if ours_to_search),
        tuple(mount.mountpoint for mount, ours_to_search in ours if not ours_to_search),
        # the source of a site does not identify its repositories
        {mount.mountpoint: mount.source for mount, _ in ours if mount.source not in ("", SITE)},
        frozenset(mount.mountpoint for mount, _ in ours if mount.source == SITE),
    )


def _own_numbers(user: int) -> set[int]:
    """Returns the ids by which the kernel may name the caller as the owner of a mount: the user id in this
    user namespace, and its equivalent in the parent namespace."""
    numbers = {user}
    with open("/proc/self/uid_map") as file:
        for line in file:
            here, above, count = (int(word) for word in line.split())
            if here <= user < here + count:
                numbers.add(above + user - here)
    return numbers


def find(name: str, node: NodeMounts) -> FoundImage:
    """Finds an image: by its path, if `name` begins with `/`, `./` or `../`; otherwise by its name in the
    searched mounts (`core.image_names`). Waits for no mount longer than LOOK_SECONDS.

    If one repository is mounted several times, the latest mount is taken. Raises UsageError if there is no
    such image, if the name means several images, or if a link leads out of the mount.
    """
    if is_path(name):
        return _find_path(name, [*node.searched, *node.foreign])
    if not node.searched:
        raise NotMounted(
            f"image {shown_address(name)}: nothing is mounted on this node{_left_out(node.foreign)}; "
            "run `lazyfs mount` first, or give a path"
        )
    questions = [
        partial(_look, mount, name, node.searched, site=mount in node.sites) for mount in node.searched
    ]
    answers = ask_each(
        questions, LOOK_SECONDS, patience=PATIENCE_SECONDS, enough=lambda value: bool(value["images"])
    )
    images = [_Candidate(*image) for answer in answers if answer.came for image in answer.value["images"]]
    if images:
        return _best(name, images, node.sources)
    refused = [reason for answer in answers if answer.came for reason in answer.value["refused"]]
    silent = [mount for mount, answer in zip(node.searched, answers, strict=True) if not answer.came]
    full = full_name(name)
    shown = f"image {shown_address(name)}" + (f" ({full})" if full != name else "")
    if refused:
        raise UsageError(f"{shown}: {refused[0]}")
    silence = f"; no answer in {LOOK_SECONDS} s from {', '.join(silent)}" if silent else ""
    near = [path for answer in answers if answer.came for path in answer.value["near"]][:MOST_SIMILAR]
    hint = f"; there are {', '.join(near)}" if near else _NOT_HERE
    raise NotMounted(
        f"{shown}: not found in {', '.join(node.searched)}{_left_out(node.foreign)}{silence}{hint}"
    )


class _Candidate(NamedTuple):
    """An image that a name may mean."""

    rank: int
    """The rank of the match; 0 is the best."""
    place: str
    """The image's path below the mount point."""
    path: str
    root: str
    metadata: str | None
    content: str
    """The path of the image's tree below the mount point; different images of a repository have different
    ones."""
    mount: str


def _best(name: str, images: list[_Candidate], sources: Mapping[str, str]) -> FoundImage:
    """Returns the first image of the best rank. Raises UsageError if different images have that rank.

    Images at the same path of a repository that is mounted twice count as one, even in different revisions.
    Images of two repositories always count as different, even if they claim to be the same: a repository may
    lie.
    """
    best = min(image.rank for image in images)
    firsts: dict[tuple[str, str], _Candidate] = {}
    for image in images:
        if image.rank == best:
            firsts.setdefault((sources.get(image.mount, image.mount), image.place), image)
    if len({(source, image.content) for (source, _), image in firsts.items()}) > 1:
        paths = ", ".join(image.path for image in firsts.values())
        raise UsageError(f"image {name} is ambiguous; give one of: {paths}")
    first = next(iter(firsts.values()))
    return FoundImage(first.root, first.metadata, first.path)


def is_path(name: str) -> bool:
    """Returns True if `name` is a path of this machine, not an image's name."""
    return name.startswith(("/", "./", "../")) or name in (".", "..")


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
    return FoundImage(answer.value["root"], answer.value["metadata"], name)


def _look_at_path(name: str, tops: list[str]) -> dict[str, Any]:
    """Finds an image by its path. Returns {"root", "metadata"}, fields of FoundImage, or {"error": text}.
    `tops`: the mount points of lazyfs, out of which no link may lead. Runs in a child process."""
    try:
        place = resolve_among_mounts(name, tops)
        if not os.path.isdir(place.real):
            if is_sif(place.real):
                return {"root": place.real, "metadata": None}
            return {"error": f"{name}: no such directory, and no SIF file"}
        mount = place.mount
        metadata = None if mount is None else _metadata(mount, os.path.abspath(name), place.real, tops)
        return {"root": place.real, "metadata": metadata}
    except UsageError as error:
        return {"error": str(error)}
    except OSError as error:
        absent = error.errno in (errno.ENOENT, errno.ENOTDIR)
        return {"error": f"{name}: {'no such directory' if absent else error.strerror}"}


def _look(mount: str, name: str, tops: Sequence[str], *, site: bool) -> dict[str, Any]:
    """Looks a name up in one mount. Returns {"images": fields of _Candidate, "refused": reasons, "near":
    similar paths}. In a mount of many repositories (`site`), looks in those that its daemon has open. `tops`:
    the mount points out of which no link may lead. Runs in a child process."""
    refused: list[str] = []
    images: list[_Candidate] = []
    trees = ["", *_names(mount, tops, "")] if site else [""]
    for tree in trees:
        images += _images(mount, tree, name, tops, refused)
    near: list[str] = []
    if not images and not refused:
        for tree in trees:
            found = similar(name, lambda folder, tree=tree: _names(mount, tops, os.path.join(tree, folder)))  # type: ignore[misc]
            near += [os.path.join(tree, path) for path in found]
    return {"images": images, "refused": refused, "near": near}


def _images(mount: str, tree: str, name: str, tops: Sequence[str], refused: list[str]) -> list[_Candidate]:
    """Returns the images that the name may mean in one repository; of several, only those of the best rank.
    `tree`: the repository's folder in the mount, empty for the whole mount. `tops`: the mount points out of
    which no link may lead. Adds the reason for each such link to `refused`. Runs in a child process."""
    top = os.path.join(mount, tree) if tree else mount
    for rank, places in enumerate(candidates(name, _names(mount, tops, tree))):
        images = []
        for place in places:
            path = os.path.join(top, place)
            try:
                found = resolve_among_mounts(path, tops)
                if found.mount == (mount.rstrip("/") or "/") and os.path.isdir(found.real):
                    metadata = _metadata(top, path, found.real, tops)
                    content = os.path.relpath(found.real, top)
                    images.append(_Candidate(rank, place, path, found.real, metadata, content, top))
            except UsageError as error:
                refused.append(str(error))
            except OSError:
                continue
        if images:
            return images
    return []


def _names(mount: str, tops: Sequence[str], folder: str) -> list[str]:
    """Returns the names in a folder of a mount; none if the mount has no such folder, or if a link leads out
    of one of the mount points `tops`. Runs in a child process."""
    try:
        found = resolve_among_mounts(os.path.join(mount, folder), tops)
        return sorted(os.listdir(found.real)) if found.mount == (mount.rstrip("/") or "/") else []
    except (OSError, UsageError):  # also a mount whose daemon is gone
        return []


def _metadata(mount: str, path: str, root: str, tops: Sequence[str]) -> str | None:
    """Returns the directory with an image's metadata; None if there is none. It is `.metadata/` followed by
    the image's path, or by the path of the image's tree. `root`: the path of this tree. `tops`: the mount
    points out of which no link may lead."""
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
