"""The results of `lazyfs profile` as text, JSON and lists of paths."""

import json
from collections.abc import Iterable
from typing import Any

from lazyfs.core.path_lists import NAME
from lazyfs.core.printable import escaped
from lazyfs.images import profiles
from lazyfs.images.profiles.published import PublishedProfile


def held_in_lines(paths: Iterable[bytes]) -> list[str]:
    """Returns the paths, with a leading /, that fit on a line of a list: those in UTF-8 without control
    characters."""
    texts = ("/" + path.decode(errors="replace") for path in paths)
    return [text for text in texts if escaped(text) == text and "\N{REPLACEMENT CHARACTER}" not in text]


def file_bundle(paths: list[str]) -> list[str]:
    """Returns the lines of a CVMFS file bundle."""
    bundle = {"name": NAME, "version": "1.0.0", "encoding": "UTF-8", "dependencies": paths}
    return json.dumps(bundle, indent=2, ensure_ascii=False).split("\n")


def fields(name: str, report: profiles.ProfileReport) -> dict[str, Any]:
    """Returns the result of publishing a profile, for JSON."""
    return {
        "repository": name,
        "revision": report.revision.number,
        "changed": report.changed,
        "place": report.place,
        "objects": report.objects,
        "bundles": report.bundles,
        "stored_bytes": report.stored_bytes,
        "left_out": report.left_out,
    }


def shown_profile(found: PublishedProfile, size: int) -> dict[str, Any]:
    """Returns an image's profile, for JSON."""
    return {
        "place": found.place,
        "digest": found.ref.digest.hex(),
        "origin": found.origin.value,
        "objects": len(found.members),
        "bytes": size,
        "stored_bytes": found.stored_bytes,
        "bundles": [
            {"digest": one.name.hex(), "stored_bytes": one.stored, "objects": len(one.members)}
            for one in found.bundles
        ],
    }


def lines(name: str, report: profiles.ProfileReport) -> list[str]:
    """Returns the result of publishing a profile, as lines for people."""
    beyond = f"; {report.left_out} more left out: too large for a start" if report.left_out else ""
    news = "" if report.changed else ": up to date"
    return [
        f"{report.place}: {report.objects} objects in {report.bundles} bundles of "
        f"{report.stored_bytes} bytes{beyond}",
        f"{name} revision {report.revision.number}{news}",
    ]
