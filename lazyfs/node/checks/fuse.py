"""Checks that this user can mount FUSE filesystems on this machine."""

import os
import re
import shutil
import stat
from collections.abc import Iterator

import msgspec

from lazyfs.node.findings import Finding, Level
from lazyfs.node.surroundings import Surroundings
from lazyfs.system.fuse_conf import PATH, user_allow_other

DEVICE = "/dev/fuse"
_SYS_ADMIN = 1 << 21
_OLDEST_KERNEL = (4, 18)
"""The kernel of EL 8, the oldest on which Python 3.11 is packaged."""


class FuseFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The machine's means of mounting."""

    user: int = 0
    kernel: str = "6.1.0"
    device: str = ""
    """The reason why the device cannot be opened; empty if it can."""
    device_exists: bool = True
    sys_admin: bool = True
    """True if this process has the capability to mount."""
    helper: str = "/usr/bin/fusermount3"
    """Path of fusermount3; empty if it is not there."""
    helper_is_roots: bool = True
    """True if fusermount3 is set-user-id root, or has capabilities of its own."""
    no_new_privileges: bool = False
    """True if no program that this process starts can gain privileges."""
    others_allowed: bool = True
    """True if users may make mounts that other users can see."""


def gather(_: Surroundings) -> FuseFacts:
    fault = ""
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        fault = error.strerror or str(error)
    helper = shutil.which("fusermount3") or shutil.which("fusermount3", path=os.defpath) or ""
    status = _status()
    return FuseFacts(
        user=os.geteuid(),
        kernel=os.uname().release,
        device=fault,
        device_exists=os.path.exists(DEVICE),
        sys_admin=bool(int(status.get("CapEff", "0"), 16) & _SYS_ADMIN),
        helper=helper,
        helper_is_roots=bool(helper) and _gains_privileges(helper),
        no_new_privileges=status.get("NoNewPrivs") == "1",
        others_allowed=user_allow_other(),
    )


def judge(facts: FuseFacts) -> Iterator[Finding]:
    if not facts.device_exists:
        yield Finding(
            Level.ERROR,
            f"{DEVICE} does not exist",
            "as root: modprobe fuse; in a container: start it with --device /dev/fuse",
        )
    elif facts.device:
        yield Finding(
            Level.ERROR,
            f"{DEVICE} cannot be opened by user {facts.user}: {facts.device}",
            f"as root: chmod 0666 {DEVICE}; in a container: allow the device (char 10:229 rwm)",
        )
    numbers = re.match(r"(\d+)\.(\d+)", facts.kernel)
    if numbers and (int(numbers[1]), int(numbers[2])) < _OLDEST_KERNEL:
        yield Finding(
            Level.WARNING,
            f"the kernel {facts.kernel} is older than any that lazyfs was tried on",
            "update the kernel to 4.18 or newer",
        )
    if facts.user == 0:
        if not facts.sys_admin:
            yield Finding(
                Level.ERROR,
                "root may not mount here: CAP_SYS_ADMIN was taken away",
                "mount on the host and bind it into the container, or give that --cap-add SYS_ADMIN",
            )
        return
    yield from _without_root(facts)


def _without_root(facts: FuseFacts) -> Iterator[Finding]:
    if not facts.helper:
        yield Finding(
            Level.ERROR, "fusermount3 is not installed", "apt-get install fuse3 (dnf install fuse3)"
        )
    elif not facts.helper_is_roots:
        yield Finding(
            Level.ERROR,
            f"{facts.helper} is not set-user-id root, or lies on a filesystem mounted nosuid",
            f"as root: chmod 4755 {facts.helper}, or mount as root",
        )
    elif facts.no_new_privileges:
        yield Finding(
            Level.ERROR,
            f"nothing that is started here can gain privileges (no_new_privs), so that {facts.helper} cannot",
            "mount before, outside this job or container; for a unit of systemd: NoNewPrivileges=no",
        )
    if not facts.others_allowed:
        yield Finding(
            Level.NOTE,
            f"{PATH} lacks user_allow_other: what users mount is seen by themselves only",
            f"as root: echo user_allow_other >> {PATH}",
        )


def _status() -> dict[str, str]:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        pairs = (line.partition(":") for line in file)
        return {name: value.strip() for name, _, value in pairs}


def _gains_privileges(path: str) -> bool:
    found = os.stat(path)
    set_user = bool(found.st_mode & stat.S_ISUID) and found.st_uid == 0
    capable = "security.capability" in os.listxattr(path)
    return (set_user or capable) and not os.statvfs(path).f_flag & os.ST_NOSUID
