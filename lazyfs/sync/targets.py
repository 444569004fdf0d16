"""Turns wishes into targets: one for each image of the tree, with all the wishes that want it. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lazyfs.core.digest import sha256
from lazyfs.core.image_names import LIBRARY
from lazyfs.core.oci.manifest import Platform
from lazyfs.core.oci.reference import HUB, Reference, parse
from lazyfs.core.tree_paths import metadata_path
from lazyfs.core.wishlist.wish import CERN, OSG, Extras, Wish
from lazyfs.sync.layout import digest_place, multiarch_place, osg_place


class WishedBy(NamedTuple):
    """The line of a list that wishes an image."""

    list: str
    line: int
    shown: str
    """The wish as the list has it."""
    owner: str = ""


@dataclass
class Target:
    """One image to have in the tree."""

    reference: Reference
    wished_by: list[WishedBy] = field(default_factory=list)
    platforms: tuple[Platform, ...] = ()
    """The platforms that the wishes name, in their order; empty if none names any."""
    bind_points: tuple[str, ...] = ()
    osg: bool = False
    """True if it hangs at its path without registry too."""

    @property
    def place(self) -> str:
        return self.reference.path

    @property
    def options(self) -> str:
        """A text that changes if the image has to be made anew although its tag has not moved."""
        parts = [*map(str, self.platforms), "", *self.bind_points]
        return sha256("\0".join(parts).encode()).hex()[:16] if len(parts) > 1 else ""


class Resolved(NamedTuple):
    """A wish with the tags that it means now."""

    list: str
    wish: Wish
    references: Sequence[Reference]


class Targets(NamedTuple):
    """The images that the tree is to have."""

    by_place: dict[str, Target]
    collisions: list[str]
    """Wishes that get less than they ask for because of others, one line each."""


def targets(resolved: Iterable[Resolved], layout: str) -> Targets:
    """Returns one target for each image. If several wishes want it, their options are joined, in the order of
    the lists.

    `layout`: the layout of wishes that name none.
    """
    found: dict[str, Target] = {}
    collisions = []
    for source, wish, references in resolved:
        for reference in references:
            target = found.setdefault(reference.path, Target(reference))
            if target.reference != reference:
                first = target.wished_by[0]
                collisions.append(
                    f"{source}:{wish.line}: {reference} is wished as {target.reference} by "
                    f"{first.list}:{first.line}, which counts"
                )
            _join(target, source, wish, layout)
    return Targets(found, collisions + _without_registry(found))


def _without_registry(found: dict[str, Target]) -> list[str]:
    """Decides which images hang at their path without registry too; returns a line with the reason for each
    that may not.

    Docker Hub's come first, as in every tool that leaves the registry out; then the order of the lists.
    """
    collisions = []
    taken: dict[str, Target] = {}
    for target in sorted(found.values(), key=lambda one: one.reference.registry != HUB):
        if not target.osg:
            continue
        path = osg_place(target.reference)
        namespace, slash, _ = path.partition("/")
        if not slash or "." in namespace or (namespace == LIBRARY and target.reference.registry != HUB):
            reason = f"{path} would stand for another registry's image"
        elif path in found or taken.setdefault(path, target) is not target:
            reason = f"{taken[path].place if path in taken else path} has {path}"
        else:
            continue
        collisions.append(f"{target.place} hangs at its place with the registry only: {reason}")
        target.osg = False
    return collisions


def _join(target: Target, source: str, wish: Wish, layout: str) -> None:
    extras: Extras = wish.extras
    target.wished_by.append(WishedBy(source, wish.line, wish.shown, extras.owner))
    target.platforms = tuple(dict.fromkeys([*target.platforms, *extras.platforms]))
    target.bind_points = tuple(sorted({*target.bind_points, *extras.bind_points}))
    target.osg |= (extras.layout or layout or CERN) == OSG


def place_reference(place: str) -> Reference:
    """Returns the reference whose image hangs at this place: the reverse of Target.place."""
    name, colon, digest = place.partition(":sha256:")
    if not colon:
        return parse(place)
    return parse(f"{name}@sha256:{digest}")


def alias_paths(target: Target, digest: str) -> list[str]:
    """Returns the paths beside its place at which links lead to the image of this digest."""
    paths = [digest_place(target.reference, digest)] if target.reference.tag else []
    if target.osg:
        paths.append(osg_place(target.reference))
    return paths


def all_paths(target: Target, digest: str) -> list[str]:
    """Returns every path that is the target's own in the tree: its links, and the folders that hold its
    manifests and configs."""
    place = target.place
    paths = [place, metadata_path(place), *alias_paths(target, digest)]
    for number, platform in enumerate(target.platforms):
        path = multiarch_place(platform, place)
        paths += [path, metadata_path(path)] if number else [path]
    return sorted(paths)
