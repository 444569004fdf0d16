"""The bounds of owners: whose images are over them is not published, or leaves the tree. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from lazyfs.core.byte_size import shown_size

EVERYBODY = "*"


class Quota(NamedTuple):
    """The bounds of one owner."""

    images: int | None = None
    """Images that the owner's wishes may have; None: any number."""
    size: int | None = None
    """Bytes of their layers at their registries, each image counted by itself."""


Owned = tuple[str, list[str]]
"""The place of an image, and the owners that its wishes name: an empty one for each wish without owner."""


def over_quota(
    images: Iterable[Owned], sizes: Mapping[str, int], quotas: Mapping[str, Quota]
) -> dict[str, str]:
    """Returns place -> reason of the images for which their owners have no room.

    Room is given in the order of the images, so that equal lists give equal trees: what stands first stays.
    An image that somebody wishes who has room for it, or without an owner, is had, and counts for each owner
    who wishes it and has room. `sizes`: place -> bytes, of the images that have been read; others count as
    empty until they have.
    """
    used: dict[str, list[int]] = {}
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
                count = used.setdefault(owner, [0, 0])
                count[0] += 1
                count[1] += size
    return refused


class OwnersRoom:
    """The room that owners have in one run."""

    def __init__(
        self, images: Iterable[Owned], sizes: Mapping[str, int], quotas: Mapping[str, Quota]
    ) -> None:
        self._images = list(images) if quotas else []
        self._sizes = dict(sizes)
        self._quotas = quotas

    @property
    def refused(self) -> dict[str, str]:
        """Place -> reason of the images that have no room."""
        return over_quota(self._images, self._sizes, self._quotas)

    def refusal(self, place: str, size: int) -> str:
        """Returns why an image that was read, and has this size, has no room; an empty text if it has."""
        self._sizes[place] = size
        return self.refused.get(place, "") if self._quotas else ""


def _no_room(owner: str, size: int, used: Mapping[str, list[int]], quotas: Mapping[str, Quota]) -> str:
    """Returns why an owner has no room for an image of this size; an empty text if there is room."""
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
