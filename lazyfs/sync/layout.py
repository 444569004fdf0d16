"""The places of an image in the tree: every name under which people of the field look for it.

| layout | path |
|---|---|
| always | `<registry>/<repository>:<tag>`, the image's place |
| always | `<registry>/<repository>:sha256:<digest that the tag names>` |
| osg | `<namespace>/<repository>:<tag>` too |
| several platforms | `.multiarch/<architecture>[:<variant>]/<registry>/<repository>:<tag>` for each |

Other spellings of a registry or an architecture are links to its folder.
"""

import posixpath
from collections.abc import Iterable

from lazyfs.core.oci.manifest import Platform
from lazyfs.core.oci.reference import HUB, HUB_HOSTS, Reference

MULTIARCH = ".multiarch"
ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "arm64:v8": "arm64",
    "i386": "386",
    "armel": "arm:v5",
    "armhf": "arm:v7",
}
"""Other spelling of an architecture -> the folder of `.multiarch` that it leads to."""
LAST_UPDATE = "logDir/lastUpdate"


def architecture_folder(platform: Platform) -> str:
    """Returns the name of a platform's folder below `.multiarch`."""
    variant = "" if (platform.architecture, platform.variant) == ("arm64", "v8") else platform.variant
    return f"{platform.architecture}:{variant}" if variant else platform.architecture


def multiarch_place(platform: Platform, place: str) -> str:
    """Returns the path of an image for one platform, given the image's place."""
    return f"{MULTIARCH}/{architecture_folder(platform)}/{place}"


def digest_place(reference: Reference, digest: str) -> str:
    """Returns the path at which the tree has an image under the digest that its tag names."""
    return f"{reference.registry}/{reference.repository}:{digest}"


def osg_place(reference: Reference) -> str:
    """Returns the path at which the tree has an image without the registry's name."""
    return f"{reference.repository}:{reference.tag or reference.digest}"


def link_target(path: str, target: str) -> str:
    """Returns the content of a link at `path` that leads to `target`; both are paths from the root of the
    tree."""
    return posixpath.relpath(target, posixpath.dirname(path) or ".")


def folder_links(paths: Iterable[str]) -> dict[str, str]:
    """Returns the links between folders that a tree with images at these paths needs: path of the link ->
    path of its target, both from the root of the tree. No link is made at a name that is itself a folder of
    images."""
    links = {}
    tops = set()
    for path in paths:
        top, _, rest = path.partition("/")
        tops.add(f"{top}/{rest.partition('/')[0]}" if top == MULTIARCH else top)
    if HUB in tops:
        links.update(dict.fromkeys(HUB_HOSTS[1:], HUB))
    for alias, name in ARCHITECTURES.items():
        if f"{MULTIARCH}/{name}" in tops:
            links[f"{MULTIARCH}/{alias}"] = f"{MULTIARCH}/{name}"
    return {alias: target for alias, target in links.items() if alias not in tops}
