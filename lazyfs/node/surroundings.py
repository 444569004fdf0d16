"""The surroundings that the doctor looks at: the node's mounts, their settings and status, gathered once
under a deadline."""

from collections.abc import Sequence
from typing import NamedTuple

from lazyfs.core.errors import UsageError
from lazyfs.daemon import control_client
from lazyfs.daemon.wanted_settings import WantedSettings
from lazyfs.node.probe import LookedAt, look
from lazyfs.system import mountpoint as points
from lazyfs.system.mount_table import Mount

ASK_SECONDS = 1.0
"""Seconds that a daemon may take to answer a request for its settings, after it has answered one for its
status."""


class LookedAtMount(NamedTuple):
    """One mount of lazyfs."""

    mount: Mount
    looked: LookedAt
    settings: WantedSettings | None
    """The mount's settings; None if this user may not ask for them, or if the daemon does not answer."""
    covered_by: str
    """The filesystem that covers the mount, as `type source`; empty if there is none."""


class Surroundings(NamedTuple):
    """The facts that all checks start from: mounts and settings."""

    mounts: list[LookedAtMount]
    wanted: list[WantedSettings]
    """The settings of the mounts, and those of a mount that is to be made."""


def look_around(mounts: Sequence[Mount], wanted: WantedSettings | None) -> Surroundings:
    """Looks at these mounts. `wanted`: the settings of a mount that is to be made. Takes no longer than
    `probe.look`, which this calls first, and ASK_SECONDS together."""
    found = []
    table = points.mounts()
    looks = look(mounts)
    answering = [mount for mount, looked in zip(mounts, looks, strict=True) if looked.status is not None]
    told = dict(zip(answering, control_client.settings_each(answering, ASK_SECONDS), strict=True))
    for mount, looked in zip(mounts, looks, strict=True):
        settings = told.get(mount)
        if isinstance(settings, UsageError):  # the daemon is root's and we are not root, or it is too old
            settings = None
        top = [other for other in table if other.mountpoint == mount.mountpoint][-1:]
        covered = top[0] if top and top[0].device != mount.device else None
        found.append(
            LookedAtMount(mount, looked, settings, f"{covered.fstype} {covered.source}" if covered else "")
        )
    settings_of_mounts = [one.settings for one in found if one.settings is not None]
    return Surroundings(found, [*settings_of_mounts, *([wanted] if wanted else [])])


def mounts_at(mountpoint: str | None) -> list[Mount]:
    """Returns the mounts of lazyfs at a path, covered ones included; all those of the node if no path is
    given.

    Raises UsageError if there is none at the path.
    """
    found = [mount for mount in points.mounts() if mount.fstype == points.FSTYPE]
    if mountpoint is None:
        return found
    path = points.absolute(mountpoint)
    here = [mount for mount in found if mount.mountpoint == path]
    if not here:
        raise UsageError(f"{path} is no mount of lazyfs; leave it out to check the machine alone")
    return here
