"""Turns wishes into targets: one for each image that the tree is to have, with all wishes for it. Pure."""

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

MOST_PROFILES = 4
"""The largest number of commands of one image whose starts are recorded; the commands of further wishes are
ignored."""


class WishedBy(NamedTuple):
    """A wish for an image: the list and its line."""

    list: str
    line: int
    shown: str
    """The wish as it is written in the list."""
    owner: str = ""


@dataclass
class Target:
    """One image that the tree is to have."""

    reference: Reference
    wished_by: list[WishedBy] = field(default_factory=list)
    platforms: tuple[Platform, ...] = ()
    """The platforms that the wishes name, in the wishes' order; empty if none names any."""
    bind_points: tuple[str, ...] = ()
    profiles: tuple[tuple[str, ...], ...] = ()
    """Commands whose starts are to be recorded."""
    osg: bool = False
    """True if the tree has the image twice: at `place`, and at the path without the registry, as OSG's
    repositories have it."""

    @property
    def place(self) -> str:
        return self.reference.path

    @property
    def owners(self) -> list[str]:
        """The owners that the image's wishes name; an empty name for each wish without owner."""
        return [one.owner for one in self.wished_by]

    @property
    def grid_place(self) -> str:
        """The image's path without the registry."""
        return osg_place(self.reference)

    @property
    def options(self) -> str:
        """A text of the options that an image is made with. If it changes, the image is made anew, even if
        its tag has not moved."""
        parts = [*map(str, self.platforms), "", *self.bind_points]
        return sha256("\0".join(parts).encode()).hex()[:16] if len(parts) > 1 else ""


class Resolved(NamedTuple):
    """A wish and the tags that it means now."""

    list: str
    wish: Wish
    references: Sequence[Reference]


class Targets(NamedTuple):
    """The images that the tree is to have."""

    by_place: dict[str, Target]
    collisions: list[str]
    """One line for each wish that gets less than it asks for because of another wish."""


def targets(resolved: Iterable[Resolved], layout: str) -> Targets:
    """Returns one target for each image. If several wishes mean the same image, their options are joined, in
    the order of the lists.

    `layout`: the layout for wishes that name none.
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
    """Decides which images the tree also has at the path without the registry's name. Returns one line, with
    the reason, for each image that does not get that path.

    Images of Docker Hub get the path first, because every tool that leaves the registry out means Docker Hub;
    then the order of the lists decides.
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
    if extras.profile and len(target.profiles) < MOST_PROFILES:
        target.profiles = tuple(dict.fromkeys([*target.profiles, extras.profile]))
    target.osg |= (extras.layout or layout or CERN) == OSG


def place_reference(place: str) -> Reference:
    """Returns the image reference of the image at this place: the reverse of Target.place."""
    name, colon, digest = place.partition(":sha256:")
    if not colon:
        return parse(place)
    return parse(f"{name}@sha256:{digest}")


def alias_paths(target: Target, digest: str) -> list[str]:
    """Returns the paths other than the target's place at which links lead to the image of this digest."""
    paths = [digest_place(target.reference, digest)] if target.reference.tag else []
    if target.osg:
        paths.append(osg_place(target.reference))
    return paths


def all_paths(target: Target, digest: str) -> list[str]:
    """Returns every path in the tree that belongs to the target alone: its links, and the folders of its
    manifests and configs."""
    place = target.place
    paths = [place, metadata_path(place), *alias_paths(target, digest)]
    for number, platform in enumerate(target.platforms):
        path = multiarch_place(platform, place)
        paths += [path, metadata_path(path)] if number else [path]
    return sorted(paths)
