"""The files of /proc that are covered when root starts a program, also with kernels that this machine does
not run."""

import stat

from hypothesis import given
from hypothesis import strategies as st

from lazyfs.runtimes.proc_covers import list_proc, proc_covers

DIRECTORY, FILE, LINK = stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK


def test_what_runc_masks_and_makes_read_only_is_covered() -> None:
    """The names are from the lists of containers/common and moby; the modes are those of Linux 6.1 and
    6.18."""
    found = proc_covers(
        [
            *(
                (name, DIRECTORY | 0o555)
                for name in ("acpi", "asound", "scsi", "sys", "irq", "bus", "fs", "tty")
            ),
            *(
                (name, FILE | 0o400)
                for name in ("kcore", "timer_list", "kmsg", "kpagecount", "a-later-kernels")
            ),
            *((name, FILE | 0o444) for name in ("keys", "interrupts", "meminfo", "cpuinfo", "sched_debug")),
            ("sysrq-trigger", FILE | 0o200),
            ("mtrr", FILE | 0o644),
            ("later", DIRECTORY | 0o500),
            ("self", LINK | 0o777),
            ("1", DIRECTORY | 0o555),
        ]
    )
    empty = "a-later-kernels interrupts kcore keys kmsg kpagecount sched_debug sysrq-trigger timer_list"
    assert found.empty_files == tuple(empty.split())
    assert found.empty_directories == ("acpi", "asound", "later", "scsi")
    assert found.read_only == ("bus", "fs", "irq", "mtrr", "sys", "tty")


@given(
    entries=st.dictionaries(
        st.text(min_size=1),
        st.sampled_from([DIRECTORY, FILE]).flatmap(lambda kind: st.integers(0, 0o777).map(kind.__or__)),
    )
)
def test_nothing_that_root_alone_may_read_or_write_is_left(entries: dict[str, int]) -> None:
    found = proc_covers(entries.items())
    covered = {*found.empty_files, *found.empty_directories, *found.read_only}
    for name, mode in entries.items():
        if not name.isdigit() and name not in covered:
            assert stat.S_ISREG(mode)
            assert mode & 0o004
            assert not mode & 0o222


def test_every_name_of_this_machine_is_a_place_in_proc() -> None:
    names = {name for name, _ in list_proc()}
    assert {"self", "sys", "meminfo"} <= names
    assert not any(name.isdigit() for name in names)
