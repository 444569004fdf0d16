"""Namespaces around a runtime that makes too few of its own, or that would leave something behind.

The runtime and all that it starts are in a mount, pid, ipc and uts namespace of ours. So the kernel ends all
of them when our init ends, even those that a runtime has detached. The runtime's files are in the scratch
directory, which is in memory and goes with the namespaces. The program sees no process, message queue or
shared memory of the machine, whether or not the runtime hides them. The init is no process of the image, so
that the program is not process 1 and its signals work as elsewhere. Mount points that the image lacks are
made in an overlay over the image, which only the runtime sees.
"""

from collections.abc import Mapping
from typing import NamedTuple

from lazyfs.runtimes.records import NOTHING

NOTIFY = "notify"
"""The file name, in the scratch directory, of the socket that NOTIFY_SOCKET points to."""
CGROUPS = "/sys/fs/cgroup"
"""The directory of control groups. It is made read-only for a runtime that would make groups there: then the
program stays in the batch system's group, and no group is left behind."""


class AddedPath(NamedTuple):
    """A mount point that the image lacks."""

    path: str
    """The absolute path of the mount point below the image's root, free of links."""
    is_directory: bool
    link: str | None = None
    """The target, if a symbolic link is to be made."""


class BoundSource(NamedTuple):
    """A path of the machine that appears in the scratch directory under a plain name. Runtimes bind it from
    there, because they differ in how they quote colons, commas and links, and Charliecloud has no read-only
    binds."""

    source: str
    name: str
    read_only: bool
    device: bool = False
    """True if devices can be opened inside: for a device, or a directory of devices."""


class Enclosure(NamedTuple):
    """The namespaces, files and mounts that one start gets around its runtime."""

    scratch: str
    """The path of the scratch directory. It does not exist before the start; inside, it is a filesystem in
    memory."""
    root: str
    """The image's root filesystem."""
    added: tuple[AddedPath, ...] = ()
    sources: tuple[BoundSource, ...] = ()
    files: Mapping[str, bytes] = NOTHING
    """Path below the scratch directory -> content. The directories above each path are made. A path with a
    slash at its end makes an empty directory."""
    environment: Mapping[str, str] = NOTHING
    """The runtime's own environment, not the program's."""
    evidence: str | None = None
    """The name of a file in the scratch directory that has content only if the program was started."""
    detached: bool = False
    """True for a runtime that ends once it has started the program, and leaves the program's process id as
    evidence: the start then ends with the program."""
    evidence_open: bool = False
    """True if the runtime inherits a descriptor of the evidence file, open for writing, in place of the one
    to which it would write its status."""
    own_names: frozenset[str] = frozenset()
    """Names (/proc/PID/comm) of the runtime's own processes. The first process below them with another name
    is the program."""
    network: bool = True
    covered: tuple[str, ...] = ()
    """Directories of the machine that are covered, for the runtime, by empty filesystems in memory."""
    frozen: str | None = None
    """A directory of the machine below which all filesystems are made read-only if root starts the runtime. A
    user's runtime cannot write there anyhow."""
    own_devices: bool = False
    """True to make a new /dev, for a runtime that would otherwise show the machine's own /dev."""
    notified: bool = False
    """True if the runtime reports the program's start by sd_notify, to the socket `NOTIFY` in the scratch
    directory."""
    own_group: bool = False
    """True to make a control group below the caller's and remove it after the start, for a runtime that makes
    groups below its own."""
    in_shell: bool = False
    """True if a shell of the image starts the program: signals go to the shell's children, not to the
    shell."""
    shows_root: bool = False
    """True to make a user other than root appear as root inside, with all capabilities there, as podman
    needs."""
