"""The results of `lazyfs profile` as text, JSON and lists of paths."""

import json
from collections.abc import Iterable
from typing import Any

from lazyfs.core.path_lists import NAME
from lazyfs.core.printable import escaped, printable
from lazyfs.core.profile import total
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
    """Returns the result of publishing a profile, for JSON. `name`: the repository's name."""
    return {
        "repository": name,
        "revision": report.revision.number,
        "changed": report.changed,
        "place": report.place,
        "programs": report.programs,
        "files": report.files,
        "hot_packs": report.hot_packs,
        "hot_bytes": report.hot_bytes,
        "objects": report.objects,
        "left_out": report.left_out,
    }


def shown_profile(found: PublishedProfile) -> dict[str, Any]:
    """Returns an image's profile, for JSON."""
    packs = found.profile.listed()
    hot = {pack.ref for pack in packs}
    return {
        "place": found.place,
        "digest": found.ref.digest.hex(),
        "origin": found.profile.origin.value,
        "bytes": total(found.profile.of()),
        "hot_packs": [
            {"digest": pack.ref.digest.hex(), "bytes": pack.ref.size, "files": len(pack.files)}
            for pack in packs
        ],
        "programs": [
            {
                "path": program.path,
                "hot_packs": sum(ref in hot for ref in program.objects),
                "objects": sum(ref not in hot for ref in program.objects),
                "bytes": total(program.objects),
            }
            for program in found.profile.programs
        ],
    }


def shown_lines(found: PublishedProfile) -> list[str]:
    """Returns an image's profile, as lines for people."""
    packs = found.profile.listed()
    hot = {pack.ref for pack in packs}
    files = sum(len(pack.files) for pack in packs)
    said = [
        f"{found.place}: {found.profile.origin}, {total(found.profile.of())} bytes",
        f"  {files} small files in {len(packs)} hot packs of {total(hot)} bytes",
    ]
    for program in found.profile.programs:
        name = printable(program.path) or "any program"
        said.append(f"  {name}: {len(program.objects)} objects of {total(program.objects)} bytes")
    return said


def lines(name: str, report: profiles.ProfileReport) -> list[str]:
    """Returns the result of publishing a profile, as lines for people. `name`: the repository's name."""
    beyond = f"; {report.left_out} more left out: too large for a start" if report.left_out else ""
    news = "" if report.changed else ": up to date"
    return [
        f"{report.place}: {report.files} small files in {report.hot_packs} hot packs of {report.hot_bytes} "
        f"bytes, {report.objects} other objects{beyond}",
        f"{name} revision {report.revision.number}{news}",
    ]
