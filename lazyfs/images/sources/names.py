"""Splits `PATH[:WHICH]`, the notation of an image in a layout or archive. Both the path and the image's name
may hold colons and slashes."""

import os
from collections.abc import Callable
from typing import NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.core.oci.reference import parse


class Which(NamedTuple):
    """The choice of one image among several. At most one field is set."""

    name: str | None = None
    number: int | None = None
    """`@N`: the N-th, from 0, as skopeo counts."""
    digest: str | None = None
    """`@sha256:...`"""


def split(text: str, exists: Callable[[str], bool]) -> tuple[str, Which]:
    """Returns (path, choice of the image). skopeo cuts at the first colon; later colons are tried if that
    path does not exist.

    Raises UsageError if `@` is followed by neither a number nor a digest.
    """
    path, digest = text, ""
    if not exists(text) and "@sha256:" in text:
        head, _, digits = text.rpartition("@sha256:")
        path, digest = head.removesuffix(":"), f"sha256:{digits}"
    if digest:
        return path, Which(digest=digest)
    positions = [position for position, character in enumerate(text) if character == ":"]
    for position in positions:
        if exists(text[:position]):
            return text[:position], _which(text[position + 1 :], text)
    if exists(text) or not positions:
        return text, Which()
    return text[: positions[0]], _which(text[positions[0] + 1 :], text)


def _which(text: str, shown: str) -> Which:
    if not text:
        return Which()
    if not text.startswith("@"):
        return Which(name=text)
    digits = text[1:]
    if not (digits.isascii() and digits.isdigit() and len(digits) < 7):
        raise UsageError(f"{shown}: after @ comes the number of an image, from 0, or its digest")
    return Which(number=int(digits))


def same_reference(one: str, other: str) -> bool:
    """Returns True if two names mean the same image: `busybox` and `docker.io/library/busybox:latest`."""
    if one == other:
        return True
    try:
        return parse(one).path == parse(other).path
    except UsageError:
        return False


def is_layout(path: str) -> bool:
    """Returns True if an OCI image layout is at the path."""
    return os.path.isfile(os.path.join(path, "index.json"))
