"""Checks that users can make namespaces, in which `lazyfs run` and rootless runtimes start programs."""

import ctypes
import os
import shutil
from collections.abc import Iterator

import msgspec

from lazyfs.node.findings import Finding, Level
from lazyfs.node.surroundings import Surroundings

_NEW_USER, _NEW_MOUNTS = 0x10000000, 0x20000


class NamespaceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The kernel's settings for user namespaces; None for one that this kernel does not have."""

    user: int = 1000
    most: int | None = 100_000
    """The value of the sysctl user.max_user_namespaces."""
    unprivileged: int | None = 1
    """The value of the sysctl kernel.unprivileged_userns_clone, which Debian's and Ubuntu's kernels have."""
    apparmor: int | None = 0
    """The value of the sysctl kernel.apparmor_restrict_unprivileged_userns."""
    refused: str = ""
    """The kernel's error when this process tried to make a namespace; empty if it could."""
    bubblewrap: str = "/usr/bin/bwrap"
    """Path of bwrap; empty if it is not there."""


def gather(_: Surroundings) -> NamespaceFacts:
    """Reads the kernel's settings, tries to make a user namespace, and returns the facts. Runs in a child
    process, which ends after its answer."""
    bubblewrap = shutil.which("bwrap") or ""
    settings = {
        "most": _number("/proc/sys/user/max_user_namespaces"),
        "unprivileged": _number("/proc/sys/kernel/unprivileged_userns_clone"),
        "apparmor": _number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
    }
    user = os.geteuid()
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.unshare(_NEW_USER | _NEW_MOUNTS)
    refused = os.strerror(ctypes.get_errno()) if done else ""
    return NamespaceFacts(user=user, refused=refused, bubblewrap=bubblewrap, **settings)


def judge(facts: NamespaceFacts) -> Iterator[Finding]:
    if not facts.bubblewrap:
        yield Finding(
            Level.NOTE,
            "bwrap is not installed: lazyfs run cannot start programs",
            "apt-get install bubblewrap",
        )
    if facts.user == 0:
        return
    if facts.most == 0:
        yield _finding("user.max_user_namespaces is 0", "sysctl user.max_user_namespaces=10000")
    elif facts.unprivileged == 0:
        yield _finding("kernel.unprivileged_userns_clone is 0", "sysctl kernel.unprivileged_userns_clone=1")
    elif facts.refused:
        yield _finding(
            f"the kernel refuses one ({facts.refused})",
            "in a container: a seccomp profile that lets unshare(2) through",
        )
    elif facts.apparmor == 1:
        yield _finding(
            "AppArmor takes its rights away (kernel.apparmor_restrict_unprivileged_userns is 1)",
            "a profile with `userns,` for bwrap, or sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        )


def _finding(why: str, do: str) -> Finding:
    return Finding(
        Level.WARNING,
        f"users cannot use namespaces, which lazyfs run and rootless runtimes need: {why}",
        f"as root: {do}; mounting itself does not need them",
    )


def _number(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None
