"""An image as docker can show it: docker takes no directory as a root filesystem, and binds nothing at /.

So the root is an image of docker's with nothing but directories and links in it, and the names of the real
image's root are bound there one by one. A directory that lacks a mount point is made in the same way, since
docker cannot make names in the read-only image.
"""

import io
import os
import stat
import tarfile
from typing import Any, NamedTuple

from lazyfs.runtimes.bind_places import Arrangement, BindPlace, arrange, shows_devices
from lazyfs.runtimes.launch import Launch
from lazyfs.runtimes.protocol import Unfit
from lazyfs.runtimes.underlay import CoveredDirectory, covers
from lazyfs.system.mountpoint import mounts as node_mounts

_OF_DOCKER = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
"""Files that docker binds in every container."""
_MADE = frozenset({"/proc", "/dev", "/sys"})
"""Mount points at which docker mounts filesystems of its own in every container."""
_MOST = 1000
"""The largest number of binds of one container: each takes the daemon a millisecond or two."""


class DockerRoot(NamedTuple):
    """The root filesystem of a container."""

    archive: bytes
    """The tar archive of docker's image."""
    mounts: list[dict[str, Any]]
    """`HostConfig.Mounts` of a container's configuration."""
    device_rules: list[str]
    """`HostConfig.DeviceCgroupRules`."""
    tmp: str
    """The image's /tmp, links followed."""


def docker_root(launch: Launch) -> DockerRoot:
    """Returns the root filesystem for a launch. Raises UsageError for a bind that cannot be made, Unfit for
    an image or bind that docker cannot show."""
    tree = arrange(launch.root, launch.binds, ())
    own = _places_of_docker(launch, tree)
    points = [*tree.places, *own]
    made = covers(launch.root, [BindPlace("/", "/"), *points])
    mounted = {*_MADE, *(place.path for place in points), *(cover.path for cover in made)}
    mounts = [
        _mount(launch.root.rstrip("/") + path, path, read_only=True)
        for cover in made
        for name in cover.shown
        if (path := os.path.join(cover.path, name)) not in mounted
    ]
    rules: list[str] = []
    for bind, place in tree.binds:
        mounts += _bound(os.path.realpath(bind.source), place.path, read_only=bind.read_only)
        if shows_devices(bind):
            rules += _rules(os.path.realpath(bind.source))
    if len(mounts) > _MOST:
        raise Unfit(f"docker would have to bind {len(mounts)} names one by one, and {_MOST} is the most")
    return DockerRoot(_archive(made), mounts, rules, tree.tmp.path)


def _places_of_docker(launch: Launch, tree: Arrangement) -> list[BindPlace]:
    """Returns mount points for those files that docker binds in every container and that are no regular files
    in the image. Raises Unfit if docker would make such a file in a bound directory of the machine, or behind
    a link."""
    etc = next((bind for bind, place in tree.binds if place.path == "/etc"), None)
    if etc is not None:
        missing = [path for path in _OF_DOCKER if not os.path.isfile(etc.source + path.removeprefix("/etc"))]
        if missing:
            raise Unfit(f"bind {etc.source}: docker would make {missing[0]} in it")
        return []
    if os.path.islink(f"{launch.root}/etc"):
        raise Unfit(f"image {launch.root}: its /etc is a link, and docker binds files there")
    if not os.path.isdir(f"{launch.root}/etc"):
        return [BindPlace(path, "/") for path in _OF_DOCKER]
    absent = [path for path in _OF_DOCKER if not _is_file(launch.root + path)]
    return [BindPlace(path, "/etc") for path in absent]


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _bound(source: str, target: str, *, read_only: bool) -> list[dict[str, Any]]:
    """Returns docker's mounts for a bind.

    For a read-only bind, the result also has each mount that is now below the source, as a read-only mount of
    its own: docker would make only the topmost mount read-only. A filesystem that is mounted below the source
    afterwards appears in the container too, if the source's mount propagates.
    """
    found = [_mount(source, target, read_only=read_only)]
    around = source, False
    for mount in node_mounts():
        if _is_in(source, mount.mountpoint):
            around = mount.mountpoint, mount.is_linked
        elif read_only and _is_in(mount.mountpoint, source) and mount.fstype != "autofs":
            path = mount.mountpoint.removeprefix(source.rstrip("/"))
            found.append(_mount(mount.mountpoint, target + path, read_only=True))
    if around[1]:
        found[0]["BindOptions"] = {"Propagation": "rslave"}
    return found


def _is_in(path: str, directory: str) -> bool:
    return f"{path}/".startswith(f"{directory.rstrip('/')}/")


def _mount(source: str, target: str, *, read_only: bool) -> dict[str, Any]:
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}


def _rules(source: str) -> list[str]:
    """Returns the device rules that let the program open a device, or every device in a directory."""
    paths = [source]
    if os.path.isdir(source):
        paths = [os.path.join(top, name) for top, _, names in os.walk(source) for name in names]
    found = []
    for path in paths:
        status = os.stat(path)
        kind = "c" if stat.S_ISCHR(status.st_mode) else "b" if stat.S_ISBLK(status.st_mode) else ""
        if kind:
            found.append(f"{kind} {os.major(status.st_rdev)}:{os.minor(status.st_rdev)} rwm")
    return found


def _archive(made: list[CoveredDirectory]) -> bytes:
    """Returns a tar archive of the directories in `made` and of their links. docker itself makes the mount
    points."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for cover in made:
            entry = tarfile.TarInfo("." + cover.path.rstrip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, cover.mode
            archive.addfile(entry)
            taken = {other.path for other in made}
            for name, target in cover.links:
                link = tarfile.TarInfo("." + os.path.join(cover.path, name))
                if link.name[1:] in taken or link.name[1:] in _OF_DOCKER:
                    continue
                link.type, link.linkname = tarfile.SYMTYPE, target
                archive.addfile(link)
    return file.getvalue()
