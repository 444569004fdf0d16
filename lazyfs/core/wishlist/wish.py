"""One wish: the images of a registry's repository that one line of a list asks for."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.core.oci.manifest import Platform
from lazyfs.core.oci.reference import HUB, Reference, parse
from lazyfs.core.wishlist.findings import Refused, quoted
from lazyfs.core.wishlist.patterns import Pattern

CERN, OSG = "cern", "osg"
LAYOUTS = (CERN, OSG)
VERSION, CREATED = "version", "created"


class Retention(NamedTuple):
    """The rule that keeps some of the tags that a pattern finds."""

    last: int = 0
    """The number of newest tags that are kept; 0 for all."""
    by: str = VERSION
    """VERSION: the newest tag has the highest version. CREATED: its image's config has the latest date."""
    newer_than: int = 0
    """The largest age of an image in seconds, by its creation date; 0 for any age."""

    @property
    def needs_dates(self) -> bool:
        """True if the images' dates have to be known."""
        return bool(self.newer_than) or (bool(self.last) and self.by == CREATED)


class Extras(NamedTuple):
    """The options of a wish for its images, beyond their names."""

    platforms: tuple[Platform, ...] = ()
    """The platforms to publish. The image for the first platform gets the image's name in the tree. Empty:
    the platforms that are set for the publishing service."""
    layout: str = ""
    """The layout of the published paths, CERN or OSG; empty: the one that is set for the publishing
    service."""
    owner: str = ""
    bind_points: tuple[str, ...] = ()
    """Directories to add to the images, as `start_files.bind_point` returns them."""
    profile: tuple[str, ...] = ()
    """The words of a command whose start is to be recorded."""


PLAIN = Extras()


class TagChoice(NamedTuple):
    """The tags of a registry's repository that are wished."""

    shown: str
    """The choice as text, for messages and for the saved state of the publishing service."""
    allow: tuple[Pattern, ...] = ()
    """A tag must match one of these patterns; without patterns, every tag is allowed."""
    deny: tuple[Pattern, ...] = ()
    retention: Retention = Retention()

    def of(self, tags: Iterable[str]) -> list[str]:
        """Returns the tags that the patterns choose, each once, in the order given."""
        return [
            tag
            for tag in dict.fromkeys(tags)
            if (not self.allow or any(pattern(tag) for pattern in self.allow))
            and not any(pattern(tag) for pattern in self.deny)
        ]


class Wish(NamedTuple):
    """The images of one registry's repository that one line of a list asks for."""

    line: int
    reference: Reference
    """The image reference, with the tag or digest that is wished; it has neither if `choice` selects tags."""
    choice: TagChoice | None = None
    """The choice of tags; None for one tag or digest."""
    extras: Extras = PLAIN

    @property
    def shown(self) -> str:
        """The wish as text, for messages and for the saved state of the publishing service."""
        return f"{self.reference}:{self.choice.shown}" if self.choice else str(self.reference)


def reference_of(line: int, registry: str, repository: str, tag: str = "", digest: str = "") -> Reference:
    """Returns the image reference made of these parts; without tag and digest it means the whole repository
    of the registry. Raises Refused."""
    if not ("." in registry or ":" in registry or registry == "localhost"):
        mend = f"write REGISTRY/{registry}/{repository}, or {HUB}/{registry}/{repository} for Docker Hub's"
        raise Refused(line, f"{quoted(registry)} is no registry's host", mend)
    name = f"{registry}/{repository}" + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    try:
        found = parse(name)
    except UsageError as error:
        raise Refused(line, str(error), "write REGISTRY/REPOSITORY:TAG") from None
    if not tag and not digest:
        found = found._replace(tag=None)
    return found


def compiled(line: int, make: Callable[[str], Pattern], text: str) -> Pattern:
    """Returns the pattern that `make` returns for a text. If `make` raises ValueError, because the text is no
    pattern, raises Refused with the number of the line."""
    try:
        return make(text)
    except ValueError as error:
        raise Refused(line, f"{quoted(text)} is no pattern: {error}", "see docs/service.md") from None
