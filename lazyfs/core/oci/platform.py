"""Which image of an index: `os/architecture[/variant]`, with the names people use for them."""

from lazyfs.core.errors import FormatError, UsageError
from lazyfs.core.oci.manifest import Descriptor, Index, Platform

_ALIASES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armhf": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i386": ("386", ""),
    "i686": ("386", ""),
}


def parse_platform(text: str) -> Platform:
    """`amd64`, `x86_64`, `linux/arm64`, `linux/arm/v7`; the system defaults to linux. Raises UsageError."""
    parts = text.lower().split("/")
    if len(parts) == 1 or (len(parts) == 2 and parts[0] in _ALIASES):
        parts.insert(0, "linux")
    if len(parts) > 3 or not all(parts):
        raise UsageError(f"platform {text!r} is not os/architecture[/variant], e.g. linux/amd64")
    architecture, variant = _ALIASES.get(parts[1], (parts[1], ""))
    return Platform(parts[0], architecture, parts[2] if len(parts) == 3 else variant)


def choose(index: Index, wanted: Platform, name: str) -> Descriptor:
    """The manifest for this platform; with several, the one of the same variant, then the first.

    Entries without a platform are taken only where the index has a single one. Raises FormatError that lists
    what there is.
    """
    images = [entry for entry in index.manifests if not _is_attestation(entry)]
    if len(images) == 1 and images[0].platform is None:
        return images[0]
    fitting = [
        entry
        for entry in images
        if entry.platform
        and (entry.platform.os, entry.platform.architecture) == (wanted.os, wanted.architecture)
    ]
    if wanted.variant:
        exact = [entry for entry in fitting if entry.platform and entry.platform.variant == wanted.variant]
        unsaid = [entry for entry in fitting if entry.platform and not entry.platform.variant]
        fitting = exact or unsaid
    if not fitting:
        there = ", ".join(sorted({str(entry.platform) for entry in images if entry.platform})) or "none"
        raise FormatError(f"{name}: no image for platform {wanted}; there is {there}: choose with --platform")
    return fitting[0]


def _is_attestation(entry: Descriptor) -> bool:
    """BuildKit lists provenance beside the images, with platform unknown/unknown."""
    return entry.platform is not None and entry.platform.os == "unknown"
