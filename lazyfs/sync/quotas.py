"""Quotas of owners, the people or groups that wishes name as `owner`: an image beyond the quotas of all its
owners is not published, or leaves the tree. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from lazyfs.core.byte_size import shown_size

EVERYBODY = "*"


class Quota(NamedTuple):
    """The quota of one owner."""

    images: int | None = None
    """The largest number of images that the owner's wishes may have; None for any number."""
    size: int | None = None
    """The largest size of these images: bytes of their layers at their registries. Layers that images share
    count for each image."""


class QuotaUse(msgspec.Struct, frozen=True, omit_defaults=True):
    """The quota of one owner, and the part of it that is used."""

    images: int
    """The number of the owner's images that are in the tree and count for this owner."""
    size: int
    """The bytes of these images' layers at their registries."""
    most_images: int | None = None
    most_size: int | None = None

    @property
    def text(self) -> str:
        """The use in words, for people: `12 of 200 images, 34.0 GiB of 500.0 GiB`."""
        if self.most_images is not None:
            images = f"{self.images} of {self.most_images} images"
        else:
            images = "1 image" if self.images == 1 else f"{self.images} images"
        bound = "" if self.most_size is None else f" of {shown_size(self.most_size)}"
        return f"{images}, {shown_size(self.size)}{bound}"


Owned = tuple[str, list[str]]
"""(place of an image, the owners that its wishes name). A wish without an owner counts as one with an empty
name."""


def over_quota(
    images: Iterable[Owned], sizes: Mapping[str, int], quotas: Mapping[str, Quota]
) -> dict[str, str]:
    """Returns the images that have no room in the quotas of any of their owners: place -> reason.

    Room is given in the order of `images`, so that equal lists give equal trees and earlier images stay. An
    image has room if one of its owners has room for it, or if a wish for it has no owner. It then counts for
    each of its owners who has room. `sizes`: place -> bytes of the image. An image that has not been read yet
    is not in `sizes`, and counts as empty.
    """
    return _given_room(images, sizes, quotas)[0]


def quota_use(
    images: Iterable[Owned], sizes: Mapping[str, int], quotas: Mapping[str, Quota]
) -> dict[str, QuotaUse]:
    """Returns the use of each owner's quota, sorted by owner; owners without a quota are left out. `images`:
    the images in the tree, which get room in the same way as in `over_quota`."""
    there = list(images)
    used = _given_room(there, sizes, quotas)[1]
    owners = {one for one in quotas if one != EVERYBODY}
    if EVERYBODY in quotas:
        owners |= {owner for _, named in there for owner in named if owner}
    found = {}
    for owner in sorted(owners):
        quota = quotas.get(owner) or quotas[EVERYBODY]
        count, size = used.get(owner, (0, 0))
        found[owner] = QuotaUse(count, size, quota.images, quota.size)
    return found


def _given_room(
    images: Iterable[Owned], sizes: Mapping[str, int], quotas: Mapping[str, Quota]
) -> tuple[dict[str, str], dict[str, tuple[int, int]]]:
    """Returns (the images without room: place -> reason; the number and the bytes of the images that count
    for each owner, by owner)."""
    used: dict[str, tuple[int, int]] = {}
    refused: dict[str, str] = {}
    for place, named in images:
        owners = list(dict.fromkeys(named))
        size = sizes.get(place, 0)
        reasons = {owner: _no_room(owner, size, used, quotas) for owner in owners}
        if owners and all(reasons.values()):
            refused[place] = "; ".join(reasons.values())
            continue
        for owner in owners:
            if not reasons[owner]:
                count, total = used.get(owner, (0, 0))
                used[owner] = count + 1, total + size
    return refused, used


class OwnersRoom:
    """The room that the owners' quotas leave during one run."""

    def __init__(
        self, images: Iterable[Owned], sizes: Mapping[str, int], quotas: Mapping[str, Quota]
    ) -> None:
        self._images = list(images) if quotas else []
        self._sizes = dict(sizes)
        self._quotas = quotas

    @property
    def refused(self) -> dict[str, str]:
        """The images that have no room: place -> reason."""
        return over_quota(self._images, self._sizes, self._quotas)

    def refusal(self, place: str, size: int) -> str:
        """Notes the size of an image that was read. Returns the reason why it has no room, or an empty text
        if it has."""
        self._sizes[place] = size
        return self.refused.get(place, "") if self._quotas else ""


def _no_room(owner: str, size: int, used: Mapping[str, tuple[int, int]], quotas: Mapping[str, Quota]) -> str:
    """Returns the reason why an owner has no room for an image of this size, or an empty text."""
    quota = quotas.get(owner) or quotas.get(EVERYBODY)
    if not owner or quota is None:
        return ""
    images, size_used = used.get(owner, (0, 0))
    return next(_reasons(owner, quota, images, size_used, size), "")


def _reasons(owner: str, quota: Quota, images: int, size_used: int, size: int) -> Iterator[str]:
    if quota.images is not None and images >= quota.images:
        yield f"over the quota of {owner}: {quota.images} images, which the wishes before it take"
    if quota.size is not None and size_used + size > quota.size:
        yield (
            f"over the quota of {owner}: {shown_size(quota.size)}, of which the wishes before it take "
            f"{shown_size(size_used)}" + (f"; it has {shown_size(size)}" if size else "")
        )
