"""The condition of an image, in the words that the status site and `lazyfs when` use. Pure."""

from collections.abc import Iterable, Mapping

import msgspec

from lazyfs.sync.state import AcknowledgedState, ImageState, WisherState

PUBLISHED, WAITING, FAILED, STALE, LEAVING = "published", "waiting", "failed", "stale", "leaving"
MEANINGS = {
    PUBLISHED: "the tree has what its tag names",
    WAITING: "wished, and not read yet",
    FAILED: "could not be read so far",
    STALE: "the tree has its last good version; a newer one could not be read",
    LEAVING: "wished no longer, or unknown to its registry; it leaves when its time of grace is over",
}


class ImageCondition(msgspec.Struct, frozen=True, omit_defaults=True):
    """The condition of one image, for people and for programs."""

    image: str
    """The image's place in the tree."""
    condition: str
    """One of `published`, `waiting`, `failed`, `stale`, `leaving`."""
    digest: str = ""
    """The digest that the image's tag named when the image was published."""
    published: int = 0
    """The time at which the image was published. All times are seconds since 1970."""
    revision: int = 0
    """The first revision that has this digest."""
    checked: int = 0
    size: int = 0
    """Stored bytes of the image's layers at its registry."""
    error: str = ""
    failures: int = 0
    failing_since: int = 0
    next_try: int = 0
    wishes: tuple[WisherState, ...] = ()
    queued: int = 0
    """The image's position among those that wait, from 1; 0 if it does not wait."""
    acknowledged: AcknowledgedState | None = None
    """The acknowledgement of the failure; None if there is none."""

    @property
    def owners(self) -> list[str]:
        """The owners that the image's wishes name, each once."""
        return list(dict.fromkeys(one.owner for one in self.wishes if one.owner))


def condition_of(place: str, image: ImageState, queued: int = 0) -> ImageCondition:
    """Returns the condition of an image. `queued`: its position among the images that wait."""
    if image.gone and image.digest:
        condition = LEAVING
    elif image.error:
        condition = STALE if image.digest else FAILED
    else:
        condition = PUBLISHED if image.digest else WAITING
    return ImageCondition(
        place,
        condition,
        image.digest,
        image.published,
        image.revision,
        image.checked,
        image.size,
        image.error,
        image.failures,
        image.failed,
        image.next_try if image.error else 0,
        tuple(image.wishes),
        queued if condition == WAITING else 0,
        image.acknowledged if image.error else None,
    )


def conditions(images: Mapping[str, ImageState]) -> list[ImageCondition]:
    """Returns the conditions of all images, sorted by place. Images that wait are numbered in the order in
    which they were wished."""
    found = []
    queued = 0
    for place, image in images.items():
        queued += not image.digest and not image.error
        found.append(condition_of(place, image, queued))
    return sorted(found, key=lambda one: one.image)


def counts(found: Iterable[ImageCondition]) -> dict[str, int]:
    """Returns the number of images in each condition."""
    numbers = dict.fromkeys(MEANINGS, 0)
    for one in found:
        numbers[one.condition] += 1
    return numbers
