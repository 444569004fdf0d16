"""Namespaces around a runtime that has too few of its own, or that would leave something behind.

The runtime and all that it starts are in a mount, pid, ipc and uts namespace of ours. So the kernel ends
everything when our init ends, whatever a runtime detaches; its files are in memory and go with it; and the
program sees no process, message queue or shared memory of the machine, whether or not the runtime hides them.
The init is no process of the image, so that the program is not process 1 and its signals work as elsewhere.
Mount points that the image lacks are made in an overlay over the image, which only the runtime sees.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

NOTIFY = "notify"
"""The name of the socket for NOTIFY_SOCKET in the scratch directory."""


class AddedPath(NamedTuple):
    """A mount point that the image lacks."""

    path: str
    """Absolute below the image's root, free of links."""
    is_directory: bool
    link: str | None = None
    """The target, if a symbolic link is to be made."""


class BoundSource(NamedTuple):
    """A path of the machine that is shown in the scratch directory under a plain name: runtimes differ in
    how they quote colons, commas and links, and Charliecloud has no read-only binds."""

    source: str
    name: str
    read_only: bool
    device: bool = False
    """True for a device, or a directory of devices, that can be opened inside."""


@dataclass(frozen=True, slots=True)
class Enclosure:
    """The surroundings of one start."""

    scratch: str
    """A directory that does not exist yet; it is made, and is a filesystem in memory inside."""
    root: str
    """The image's root filesystem."""
    added: tuple[AddedPath, ...] = ()
    sources: tuple[BoundSource, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Path below the scratch directory -> content. Directories above it are made; an empty directory is
    written with a slash at the end."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """The runtime's own environment, not the program's."""
    evidence: str | None = None
    """The name of a file in the scratch directory that has content only if the program was started."""
    evidence_open: bool = False
    """True to hand the runtime that file, open for writing, in place of the descriptor of the status."""
    own_names: frozenset[str] = frozenset()
    """Names (/proc/PID/comm) of the runtime's own processes; the first other one below them is the
    program."""
    network: bool = True
    covered: tuple[str, ...] = ()
    """Directories of the machine in place of which the runtime sees empty filesystems in memory."""
    frozen: str | None = None
    """A directory of the machine whose filesystems are read-only for a runtime that root starts; a user's
    cannot write there anyhow."""
    own_devices: bool = False
    """True to make a new /dev, because the runtime would show the machine's."""
    notified: bool = False
    """True if the runtime reports the program's start to NOTIFY_SOCKET (sd_notify), which is `NOTIFY` in the
    scratch directory."""
    shows_root: bool = False
    """True to let a user be root inside, with all capabilities there, as podman needs to set up a program."""
