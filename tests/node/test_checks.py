"""The doctor's checks on invented facts, for faults that no test can cause on this machine."""

import errno
from collections.abc import Iterable

import pytest

from lazyfs.core.chain.faults import Fault
from lazyfs.node.checks import cache_disk, files, fuse, limits, mounts, names, namespaces, paths, trust
from lazyfs.node.checks.cache_disk import CacheFacts
from lazyfs.node.checks.files import FileFacts
from lazyfs.node.checks.fuse import FuseFacts
from lazyfs.node.checks.limits import ProcessLimits
from lazyfs.node.checks.mounts import MountFacts
from lazyfs.node.checks.names import LookedUp
from lazyfs.node.checks.namespaces import NamespaceFacts
from lazyfs.node.checks.paths import Way
from lazyfs.node.checks.trust import TrustFacts
from lazyfs.node.doctor import CHECKS
from lazyfs.node.findings import Finding, Level

NOW = 1_800_000_000.0
DAY = 86_400.0


def trusted(**facts: object) -> list[TrustFacts]:
    return [TrustFacts(**{"repository": "r", "now": NOW, "expires": NOW + 5 * DAY} | facts)]  # type: ignore[arg-type]


def mount(**facts: object) -> list[MountFacts]:
    return [MountFacts(**{"mountpoint": "/m"} | facts)]  # type: ignore[arg-type]


def cache(**facts: object) -> list[CacheFacts]:
    return [CacheFacts(**{"directory": "/c"} | facts)]  # type: ignore[arg-type]


HEALTHY: list[Iterable[Finding]] = [
    fuse.judge(FuseFacts()),
    fuse.judge(FuseFacts(user=1000, sys_admin=False, device="")),
    fuse.judge(FuseFacts(kernel="6.18.44-fc-v669")),
    namespaces.judge(NamespaceFacts()),
    namespaces.judge(NamespaceFacts(most=None, unprivileged=None, apparmor=None)),
    namespaces.judge(NamespaceFacts(user=0, refused="Operation not permitted", apparmor=1)),
    limits.judge([ProcessLimits(), ProcessLimits(files=None)]),
    mounts.judge(mount()),
    trust.judge(trusted()),
    names.judge([LookedUp("squid", 0.1)]),
    cache_disk.judge(cache()),
    cache_disk.judge(cache(owner=None, user=1000)),
    cache_disk.judge(cache(free=0, charged=4 << 30)),
    files.judge([FileFacts(now=NOW, expires={"/cert": NOW + 30 * DAY})]),
    paths.judge([]),
    paths.judge([Way(origin="http://o"), Way(origin="http://o", proxy="http://p")]),
]
FAULTY = [
    (fuse.judge(FuseFacts(kernel="3.10.0-1160.el7")), Level.WARNING, "kernel 3.10", "update the kernel"),
    (fuse.judge(FuseFacts(user=1000, helper="")), Level.ERROR, "fusermount3 is not", "install fuse3"),
    (fuse.judge(FuseFacts(user=1000, helper_is_roots=False)), Level.ERROR, "set-user-id", "chmod 4755"),
    (fuse.judge(FuseFacts(user=1000, no_new_privileges=True)), Level.ERROR, "no_new_privs", "NoNewPriv"),
    (fuse.judge(FuseFacts(user=1000, others_allowed=False)), Level.NOTE, "user_allow_other", "echo"),
    (fuse.judge(FuseFacts(device="Permission denied", user=7)), Level.ERROR, "by user 7", "chmod 0666"),
    (fuse.judge(FuseFacts(sys_admin=False)), Level.ERROR, "CAP_SYS_ADMIN", "--cap-add"),
    (namespaces.judge(NamespaceFacts(bubblewrap="")), Level.NOTE, "bwrap", "install bubblewrap"),
    (namespaces.judge(NamespaceFacts(most=0, refused="x")), Level.WARNING, "max_user_names", "sysctl user."),
    (namespaces.judge(NamespaceFacts(unprivileged=0, refused="x")), Level.WARNING, "userns_clone", "=1"),
    (
        namespaces.judge(NamespaceFacts(refused="Operation not permitted")),
        Level.WARNING,
        "not perm",
        "seccomp",
    ),
    (namespaces.judge(NamespaceFacts(apparmor=1)), Level.WARNING, "AppArmor", "userns,"),
    (limits.judge([ProcessLimits(memory=100 << 20)]), Level.WARNING, "group of 100.0 MiB", "MemoryMax="),
    (limits.judge([ProcessLimits(files=256)]), Level.WARNING, "256 files", "LimitNOFILE="),
    (mounts.judge(mount(number=errno.ECONNABORTED)), Level.ERROR, "is dead", "lazyfs umount /m"),
    (mounts.judge(mount(number=errno.EACCES, owner=7, user=8)), Level.WARNING, "of user 7", "by root"),
    (mounts.judge(mount(number=errno.EIO)), Level.ERROR, "Input/output error", "log"),
    (mounts.judge(mount(owner=7)), Level.NOTE, "of user 7, not of root", "lazyfs umount"),
    (mounts.judge(mount(journal="disk full")), Level.WARNING, "disk full", "mend the disk"),
    (mounts.judge(mount(down={"proxy http://p": "refused"})), Level.WARNING, "proxy http://p", "doctor as"),
    (trust.judge(trusted(expires=NOW - 1)), Level.ERROR, "expired on 2027-01-15", "lazyfs repo resign"),
    (trust.judge(trusted(expires=NOW + DAY / 2)), Level.WARNING, "expires soon", "lazyfs repo resign"),
    (trust.judge(trusted(published=NOW + 600)), Level.ERROR, "clock is behind", "chronyc"),
    (trust.judge(trusted(problem="disk full")), Level.WARNING, "disk full", "--trust again"),
    (trust.judge(trusted(looked="no server")), Level.WARNING, "no server", "lazyfs refresh"),
    (names.judge([LookedUp("squid", None)]), Level.ERROR, "does not answer for squid", "resolv.conf"),
    (names.judge([LookedUp("squid", 2.5)]), Level.WARNING, "took 2.5 s", "dead nameservers"),
    (cache_disk.judge(cache(fstype="nfs4")), Level.ERROR, "is on nfs4", "local disk"),
    (cache_disk.judge(cache(off="disk: Input/output error")), Level.WARNING, "is not used", "mend its disk"),
]


FOUND = [list(findings) for findings, *_ in FAULTY]


def test_facts_without_fault_give_no_finding() -> None:
    assert [finding for findings in HEALTHY for finding in findings] == []


@pytest.mark.parametrize("number", range(len(FAULTY)), ids=[one[2] for one in FAULTY])
def test_a_fault_is_named_with_its_mend(number: int) -> None:
    _, level, wrong, do = FAULTY[number]
    (finding,) = FOUND[number]
    assert finding.level is level
    assert (wrong in finding.wrong, do in finding.do) == (True, True), finding


def way(proxy: str, origin: str, fault: Fault | None = None, *, by_origin: bool = False) -> Way:
    return Way(proxy=proxy, origin=origin, fault=fault, by_origin=by_origin)


@pytest.mark.parametrize(
    ("facts", "blamed"),
    [
        ([way("p", "a", Fault.REFUSED), way("p", "b", Fault.REFUSED)], ["proxy p"]),
        ([way("p", "a", Fault.REFUSED), way("q", "a", Fault.CONNECT)], ["proxy p", "proxy q"]),
        ([way("p", "a", Fault.DENIED), way("q", "a")], ["proxy p"]),
        ([way("p", "a", Fault.DENIED)], ["origin a over proxy p"]),
        ([way("p", "a", Fault.MISSING), way("p", "b")], ["origin a over proxy p"]),
        ([way("p", "a", Fault.REFUSED, by_origin=True)], ["origin a over proxy p"]),
        ([way("p", "a", Fault.DENIED), way("p", "b"), way("q", "a")], ["origin a, proxy p"]),
        ([way("DIRECT", "a", Fault.CONNECT), way("p", "a")], ["origin a, without a proxy"]),
        ([way("DIRECT", "a", Fault.DNS)], []),
    ],
)
def test_who_is_blamed(facts: list[Way], blamed: list[str]) -> None:
    assert [finding.wrong.partition(":")[0] for finding in paths.judge(facts)] == blamed


def test_every_fault_of_an_attempt_has_a_line() -> None:
    for fault in set(Fault) - {Fault.DNS}:
        (finding,) = paths.judge([way("DIRECT", "a", fault)])
        assert finding.wrong.startswith("origin a: ")
        assert finding.do


def test_findings_are_single_lines() -> None:
    for (finding,) in FOUND:
        assert "\n" not in finding.wrong + finding.do


def test_every_check_has_a_name_of_its_own() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
