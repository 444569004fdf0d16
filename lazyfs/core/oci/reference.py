"""Image references: `[registry[:port]/]repository[:tag][@digest]`, and the places of their images in a
repository's tree.

Grammar: distribution/reference of the distribution project.
"""

import re
from typing import NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.core.shown_address import shown_address

HUB = "docker.io"
"""The registry of image references that name none."""
HUB_HOSTS = (HUB, f"index.{HUB}", f"registry-1.{HUB}", "registry.hub.docker.com")
"""All names of Docker Hub. In a repository's tree, Docker Hub's images hang below the first name, whichever
of the names an image reference has."""
DEFAULT_TAG = "latest"

_DOMAIN = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?)(?::\d{1,5})?")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Reference(NamedTuple):
    """One image's name, with a tag, a digest or both; a digest decides which image is fetched."""

    registry: str
    repository: str
    tag: str | None
    digest: str | None

    @property
    def path(self) -> str:
        """The place of the image's link in the tree: `registry/repository:tag`, or
        `registry/repository:sha256:...` for an image reference by digest alone."""
        return f"{self.registry}/{self.repository}:{self.tag or self.digest}"

    @property
    def wanted(self) -> str:
        """The tag or digest to ask a registry for."""
        wanted = self.digest or self.tag
        assert wanted
        return wanted

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"


def is_tag(text: str) -> bool:
    """Returns True if an image reference can have this tag."""
    return _TAG.fullmatch(text) is not None


def parse(text: str) -> Reference:
    """Returns the image reference that a text states. If the text has neither tag nor digest, the tag is
    `latest`. Raises UsageError.

    The first part is a registry if it has a dot or a colon or is `localhost`, as in every other tool.
    """
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise UsageError(
            f"image {shown_address(text)!r}: after @ come sha256: and 64 hex digits, "
            "and no account is before it"
        )
    first, slash, remainder = rest.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry, rest = first, remainder
        if registry in HUB_HOSTS:
            registry = HUB
    else:
        registry = HUB
    repository, colon, tag = rest.partition(":")
    if registry == HUB and "/" not in repository:
        repository = f"library/{repository}"
    if not _DOMAIN.fullmatch(registry):
        raise UsageError(f"image {text!r}: {registry!r} is not a registry's host[:port]")
    if not _REPOSITORY.fullmatch(repository) or len(repository) > 255:
        raise UsageError(f"image {text!r}: {repository!r} is not a repository (lower case, digits, . _ - /)")
    if colon and not _TAG.fullmatch(tag):
        raise UsageError(f"image {text!r}: {tag!r} is not a tag")
    return Reference(
        registry, repository, tag if colon else None if at else DEFAULT_TAG, digest if at else None
    )
