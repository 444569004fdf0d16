"""The list of `skopeo sync --src yaml`: registries with `images`, `images-by-tag-regex` and
`images-by-semver`.

An empty list of tags means all tags; a regular expression may match anywhere in a tag. The settings of
skopeo's own connection (credentials, tls-verify, cert-dir) have no effect: a list cannot disable a
protection.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from lazyfs.core.wishlist import patterns
from lazyfs.core.wishlist.fields import items, know, mapping, text
from lazyfs.core.wishlist.findings import Findings, Refused
from lazyfs.core.wishlist.patterns import Pattern
from lazyfs.core.wishlist.wish import TagChoice, Wish, compiled, reference_of
from lazyfs.core.wishlist.yaml_tree import Mapping, Node, Scalar

KEYS = ("images", "images-by-tag-regex", "images-by-semver")
IDLE = ("credentials", "tls-verify", "cert-dir")


def read(document: Mapping, findings: Findings) -> list[Wish]:
    """Returns the wishes of the list. Parts that cannot be read become findings."""
    wishes: list[Wish] = []
    for registry, node in document.values.items():
        try:
            below = mapping(node, f"registry {registry}")
        except Refused as refused:
            findings.add(refused.finding)
            continue
        know(below, KEYS, IDLE, findings)
        for key, read_one in _READERS.items():
            if key in below.values:
                wishes.extend(_of_key(registry, key, below.values[key], read_one, findings))
    return sorted(wishes, key=lambda wish: wish.line)


class _Entry(NamedTuple):
    """A registry's repository that the list names, and the node that states its tags."""

    registry: str
    repository: str
    line: int
    node: Node


_Reader = Callable[[_Entry, Findings], Iterator[Wish]]


def _of_key(registry: str, key: str, node: Node, read_one: _Reader, findings: Findings) -> Iterator[Wish]:
    """Yields the wishes below one key of a registry, such as `images`. `read_one` reads each entry there."""
    try:
        repositories = mapping(node, key)
    except Refused as refused:
        findings.add(refused.finding)
        return
    for repository, below in repositories.values.items():
        try:
            yield from read_one(_Entry(registry, repository, repositories.lines[repository], below), findings)
        except Refused as refused:
            findings.add(refused.finding)


def _exact(entry: _Entry, findings: Findings) -> Iterator[Wish]:
    """Yields one wish for each tag or digest of the entry. If the entry lists none, yields one wish for all
    tags."""
    node = entry.node
    tags = [node] if isinstance(node, Scalar) and not node.absent else items(node, "the list of tags")
    if not tags:
        reference = reference_of(entry.line, entry.registry, entry.repository)
        yield Wish(entry.line, reference, TagChoice("*"))
    for one in tags:
        try:
            tag = text(one, "a tag")
            name, digest = ("", tag) if tag.startswith("sha256:") else (tag, "")
            yield Wish(one.line, reference_of(one.line, entry.registry, entry.repository, name, digest))
        except Refused as refused:
            findings.add(refused.finding)


def _by(make: Callable[[str], Pattern], shown: str) -> _Reader:
    def read_one(entry: _Entry, _: Findings) -> Iterator[Wish]:
        pattern = text(entry.node, shown)
        choice = TagChoice(f"{shown} {pattern}", (compiled(entry.node.line, make, pattern),))
        yield Wish(entry.line, reference_of(entry.line, entry.registry, entry.repository), choice)

    return read_one


_READERS: dict[str, _Reader] = {
    "images": _exact,
    "images-by-tag-regex": _by(patterns.anywhere, "regex"),
    "images-by-semver": _by(patterns.versions, "semver"),
}
