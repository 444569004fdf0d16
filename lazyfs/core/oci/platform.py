"""The choice of an image from an index: `os/architecture[/variant]`, with the names people use for them.

The order of choice is that of containerd and skopeo. The machine's own platform comes first, then the other
platforms whose images it runs, best first. An entry without a variant comes before an entry with one, unless
a variant was asked for.
"""

import re
from collections.abc import Sequence

from lazyfs.core.errors import FormatError, UsageError
from lazyfs.core.oci.manifest import Descriptor, Index, Platform

MAX_NESTING = 8
"""The largest number of levels of indexes within indexes."""
_ALIASES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "x64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv8l": ("arm", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armv5tel": ("arm", "v5"),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "loongarch64": ("loong64", ""),
}
_PART = re.compile("[a-z0-9][a-z0-9._-]*")
"""The operating system, architecture or variant of a platform. All three become names of folders in a
repository's tree, where `:` separates the variant."""
_ATTESTATION = "vnd.docker.reference.type"
_ARM = {
    "": ("", "v7", "v6", "v5"),
    "v8": ("v8", "v7", "", "v6", "v5"),
    "v7": ("v7", "", "v6", "v5"),
    "v6": ("v6", "v5", ""),
    "v5": ("v5", ""),
}
"""Maps a wanted variant of 32-bit Arm to the variants that run on it, best first. containerd treats an entry
without a variant as one of v7."""


def parse_platform(text: str) -> Platform:
    """Returns the platform that a text means: `amd64`, `x86_64`, `linux/arm64`, `linux/arm/v7`. The system
    defaults to linux. Raises UsageError."""
    parts = text.lower().split("/")
    if len(parts) == 1 or (len(parts) == 2 and parts[0] in (*_ALIASES, "amd64", "arm", "arm64")):
        parts.insert(0, "linux")
    if len(parts) > 3 or not all(map(_PART.fullmatch, parts)):
        raise UsageError(f"platform {text!r} is not os/architecture[/variant], e.g. linux/amd64")
    return normalized(Platform(*parts))


def normalized(platform: Platform) -> Platform:
    """Returns the platform in Go's names. Also takes names of Python or uname for the architecture, and `7`
    for the variant `v7`. Drops the variant v1 of amd64."""
    architecture = platform.architecture.lower()
    architecture, implied = _ALIASES.get(architecture, (architecture, ""))
    variant = platform.variant.lower()
    if variant[:1].isdigit():
        variant = f"v{variant}"
    if (architecture, variant) == ("amd64", "v1"):
        variant = ""
    return Platform(platform.os.lower(), architecture, variant or implied)


def variants(wanted: Platform) -> Sequence[str]:
    """Returns the variants that run on the (normalized) platform, best first."""
    if wanted.architecture == "arm":
        return _ARM.get(wanted.variant, (wanted.variant, ""))
    level = re.fullmatch(r"v(\d{1,2})(?:\.(\d{1,2}))?", wanted.variant)
    if wanted.architecture == "amd64" and level and not level[2]:
        return [f"v{number}" for number in range(int(level[1]), 1, -1)] + [""]
    if wanted.architecture == "arm64":
        return _arm64(int(level[1]), int(level[2] or 0)) if level else ["", "v8"]
    return [wanted.variant, ""] if wanted.variant else [""]


def _arm64(major: int, minor: int) -> list[str]:
    """Returns the variants that a processor of arm64 version `major`.`minor` runs, best first. A processor of
    version 9.N also runs everything for version 8.(N+5)."""
    found = []
    if major >= 9:
        found += [f"v9.{number}" for number in range(minor, 0, -1)] + ["v9.0", "v9"]
        major, minor = 8, minor + 5
    return found + [f"v8.{number}" for number in range(minor, 0, -1)] + ["v8.0", "v8", ""]


def runs(found: Platform, wanted: Platform) -> bool:
    """Returns True if an image for `found` runs on `wanted`, or if `found` states no platform."""
    found = normalized(found)
    if found.os and found.os != wanted.os:
        return False
    if not found.architecture:
        return True
    return found.architecture == wanted.architecture and found.variant in variants(wanted)


def choose(index: Index, wanted: Platform, name: str) -> Descriptor:
    """Returns the manifest that fits this platform best, the first of equal ones. If none fits, returns the
    first entry that states no platform. Raises FormatError that lists the platforms there are."""
    images = [entry for entry in index.manifests if is_image(entry)]
    order = list(variants(wanted))
    best: tuple[int, Descriptor] | None = None
    for entry in images:
        if entry.platform is None or not entry.platform.architecture:
            continue
        found = normalized(entry.platform)
        if (found.os or wanted.os, found.architecture) != (wanted.os, wanted.architecture):
            continue
        if found.variant in order and (best is None or order.index(found.variant) < best[0]):
            best = order.index(found.variant), entry
    if best:
        return best[1]
    for entry in images:
        if entry.platform is None or not (entry.platform.architecture or entry.platform.os):
            return entry
    there = ", ".join(sorted({str(entry.platform) for entry in images if entry.platform})) or "none"
    raise FormatError(f"{name}: no image for platform {wanted}; there is {there}: choose with --platform")


def is_image(entry: Descriptor) -> bool:
    """Returns True if an entry of an index is an image, False if it is BuildKit's provenance or a
    signature."""
    if entry.platform is not None and entry.platform.os == "unknown":
        return False
    return not entry.artifact_type and _ATTESTATION not in (entry.annotations or {})
