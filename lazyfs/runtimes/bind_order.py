"""Puts binds in the order in which they have to be mounted: outer ones before those inside them.

The text of a target does not tell: an image may have a link `/data -> /mnt/big/data`, and then a bind at /mnt
that is mounted after one at /data covers it. So targets are compared by the paths to which they lead.
"""

import os
from collections.abc import Collection, Iterable, Sequence

from lazyfs.core.errors import UsageError
from lazyfs.runtimes import path_in_image
from lazyfs.runtimes.launch import Bind

_ROUNDS = 10
"""The largest number of times that the targets are followed. Two suffice, unless an image's link is itself
inside another bind."""


def in_order(root: str, binds: Sequence[Bind], own: Collection[str]) -> list[tuple[Bind, str]]:
    """Returns each bind with the path in the image to which its target leads, outer paths first; a bind that
    is there twice only once, read-only if one of the two is. `own`: the paths at which something else is
    mounted before the binds.

    A target leads elsewhere if a link on its way lies in another bind, so targets are followed again until no
    path changes. Raises UsageError for two sources at one path, one of which would cover the other, and for
    targets that lead through one another without end.
    """
    targets = [bind.target for bind in binds]
    found = [_reached(root, target, own) for target in targets]
    if any(linked for _, linked in found):
        for _ in range(_ROUNDS):
            everything = {path for path, _ in found}
            again = [
                _reached(root, target, {*own, *(everything - {path})})
                for target, (path, _) in zip(targets, found, strict=True)
            ]
            if again == found:
                break
            found = again
        else:
            raise UsageError(
                f"bind targets {', '.join(sorted(targets))}: the image's links lead from one into another "
                "and back; give the paths without links"
            )
    placed: dict[str, Bind] = {}
    for bind, (path, _) in zip(binds, found, strict=True):
        other = placed.get(path)
        placed[path] = bind if other is None else _joined(other, bind, path)
    return sorted(((bind, path) for path, bind in placed.items()), key=lambda pair: pair[1].count("/"))


def led_to(root: str, targets: Iterable[str]) -> list[str]:
    """Returns the paths in the image to which targets lead as long as nothing is bound; for a SIF file, which
    cannot be looked into, and for an impossible target the target itself."""
    return [_reached(root, target, ())[0] for target in targets]


def _reached(root: str, target: str, stops: Collection[str]) -> tuple[str, bool]:
    """Returns (path, True if a link was followed) for a target. For a target that leads nowhere, such as one
    below a file, returns the target: another bind may make it possible, and if none does, it is refused when
    its mount point is looked for."""
    try:
        where = path_in_image.locate(root, target, stops)
    except UsageError:
        return target, True
    return os.path.join(where.found, *where.rest), where.linked


def _joined(one: Bind, other: Bind, path: str) -> Bind:
    """Returns one bind in place of two at the same path, whichever was given first. Raises UsageError if they
    differ in what they bind."""
    if os.path.realpath(one.source) != os.path.realpath(other.source):
        raise UsageError(
            f"bind target {other.target}: {one.source} is bound at {path} too, and one would cover the "
            f"other; leave out {one.source} or {other.source}"
        )
    plain = min(one, other, key=lambda bind: (bind.target != path, bind.target))
    return plain._replace(read_only=one.read_only or other.read_only, required=one.required or other.required)
