"""Keep-last-N and newer-than: rules that choose among the tags that match a pattern. Only the chosen tags
stay wished. Every run on every machine chooses the same tags.

By version, the newest tag is the one that states the highest version. Numbers are compared as numbers, a tag
without a version counts as older than all others, and ties are broken by the tag's text. By date, the newest
tag has the latest date in its image's config, even if that lies in the future. Ties, and images without a
date (none stated, 1970 or before), are ordered by version. An image without a date is not too old for
`newer_than`: its age is not known.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cmp_to_key
from typing import Any

from lazyfs.core.digits import natural
from lazyfs.core.wishlist.semver import Version, compare, parse_version
from lazyfs.core.wishlist.wish import CREATED, Retention

_DIGITS = re.compile(r"([0-9]+)")
_NOTHING = Version(-1, 0, 0)


def kept(tags: Iterable[str], retention: Retention, created: Mapping[str, int], now: float) -> list[str]:
    """Returns the tags that stay wished; newest first if `retention.last` is set, else in the given order.

    `created`: for each tag the time at which its image was made, in seconds since 1970, if that is known.
    `now`: seconds since 1970.
    """
    left = list(dict.fromkeys(tags))
    if retention.newer_than:
        oldest = now - retention.newer_than
        left = [tag for tag in left if created.get(tag, 0) <= 0 or created[tag] >= oldest]
    if not retention.last:
        return left
    by_version = sorted(left, key=version_order, reverse=True)
    if retention.by == CREATED:
        by_version.sort(key=lambda tag: max(created.get(tag, 0), 0), reverse=True)  # stable: ties by version
    return by_version[: retention.last]


def version_order(tag: str) -> Any:
    """Returns the key by which tags are sorted, the newest last: by version, then by runs of digits, then by
    text."""
    return _order(tag)


def _compare(one: str, other: str) -> int:
    versions = parse_version(one) or _NOTHING, parse_version(other) or _NOTHING
    if found := compare(*versions):
        return found
    left, right = _parts(one), _parts(other)
    if left != right:
        return 1 if left > right else -1
    return (one > other) - (one < other)


_order = cmp_to_key(_compare)


def _parts(tag: str) -> list[tuple[int, str]]:
    """Returns the runs of digits, as numbers, and the texts between them."""
    return [(natural(part) or 0, "") if part[:1].isdigit() else (-1, part) for part in _DIGITS.split(tag)]
