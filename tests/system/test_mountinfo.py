import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.system.mount_table import Mount, mounts_in, parse_mountinfo, types_in
from lazyfs.system.mountpoint import FSTYPE

MOUNTINFO = rb"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
60 22 0:50 / /mnt/first rw,nosuid,nodev,relatime - fuse.lazyfs lazyfs rw,user_id=0,group_id=0,allow_other
61 22 0:51 / /mnt/with\040space\134 rw shared:7 master:2 - fuse.lazyfs http://o/x rw,user_id=1000,group_id=0
62 22 0:52 / /mnt/other rw - fuse.sshfs fuse.lazyfs rw
63 22 0:53 / /mnt/fuse.lazyfs rw - tmpfs tmpfs rw
"""


def test_types_and_owners_are_told_apart() -> None:
    found = [(m.mountpoint, m.owner) for m in parse_mountinfo(MOUNTINFO) if m.fstype == FSTYPE]
    assert found == [("/mnt/first", 0), ("/mnt/with space\\", 1000)]


@given(
    st.lists(st.sampled_from([*MOUNTINFO.split(b"\n"), b"70 22 0:60 / /mnt/first rw - xfs s rw", b"a - b"]))
)
def test_quick_looks_find_what_the_whole_table_says(lines: list[bytes]) -> None:
    content = b"\n".join(lines)
    parsed = parse_mountinfo(content)
    assert types_in(content) == {mount.mountpoint: mount.fstype for mount in parsed}
    for name in ("/", "/mnt/first", "/mnt/with space\\", "/mnt/none"):
        assert mounts_in(content, name) == [mount for mount in parsed if mount.mountpoint == name]


def test_shared_mounts_and_slaves_are_linked() -> None:
    assert [mount.is_linked for mount in parse_mountinfo(MOUNTINFO)] == [True, False, True, False, False]


@pytest.mark.parametrize(
    "odd", [b"\r", b"\x0b", b"\x0c", b"\x1c", b"\x85", b"\xe2\x80\xa8", b"\xff\xfe", b"#", b"\x1b[2J"]
)
def test_only_a_line_feed_ends_a_line(odd: bytes) -> None:
    line = b"70 22 0:60 / /mnt/a" + odd + b"b rw - tmpfs so" + odd + b"urce rw\n"
    *_, last = parse_mountinfo(MOUNTINFO + line)
    names = os.fsdecode(b"/mnt/a" + odd + b"b"), "tmpfs", os.fsdecode(b"so" + odd + b"urce")
    assert last == Mount("0:60", *names, "rw rw")
    assert len(parse_mountinfo(MOUNTINFO + line)) == 6


def _escaped(name: bytes) -> bytes:
    """Returns a name as the kernel prints it in mountinfo, with space, tab, newline and backslash escaped."""
    return b"".join(b"\\%03o" % byte if byte in b" \t\n\\" else bytes([byte]) for byte in name)


@given(names=st.lists(st.binary(min_size=1).filter(lambda name: b"\0" not in name), max_size=5))
def test_every_name_comes_back(names: list[bytes]) -> None:
    lines = [b"1 1 0:1 / /%s rw - %s %s rw" % (_escaped(n), FSTYPE.encode(), _escaped(n)) for n in names]
    found = parse_mountinfo(b"\n".join(lines) + b"\n")
    assert [os.fsencode(m.mountpoint) for m in found] == [b"/" + name for name in names]
    assert [os.fsencode(m.source) for m in found] == names


@given(content=st.binary())
def test_nothing_else_is_raised(content: bytes) -> None:
    parse_mountinfo(content)


@pytest.mark.root
def test_odd_mount_points_of_the_machine_stop_no_command(tmp_path: Path) -> None:
    """The mounts are made in a mount namespace of their own, so that no other test meets the odd names."""
    script = 'mount -t tmpfs none "$1"; shift; "$@" status; "$@" run none:1 -- true'
    for name in (b"carriage\rreturn", b"new\nline", b"not\xffutf8", b"back\\slash", b"\x1b[2Jescape"):
        place = os.fsdecode(os.path.join(os.fsencode(tmp_path), name))
        os.mkdir(place)
        command = ["unshare", "--mount", "sh", "-c", script, "sh", place, sys.executable, "-m", "lazyfs"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert "Traceback" not in done.stderr
        assert "nothing is mounted on this node" in done.stderr or "not found in" in done.stderr


@pytest.mark.root
@pytest.mark.parametrize(
    "words", [("status",), ("umount", "/mnt"), ("probe",), ("doctor",), ("reload", "/mnt")]
)
def test_commands_that_need_proc_say_so_in_a_line(words: tuple[str, ...]) -> None:
    done = _without_proc(*words)
    assert done.returncode not in (0, 1)
    assert done.stderr + done.stdout == (
        "lazyfs: the mounts of this machine cannot be read: [Errno 2] No such file or directory: "
        "'/proc/self/mountinfo'; mount -t proc proc /proc\n"
    )


@pytest.mark.root
def test_other_commands_do_without_proc(tmp_path: Path) -> None:
    """In a root directory that is being built, /proc is not mounted."""
    store = tmp_path / "store"
    done = _without_proc(
        "repo", "init", str(store), "--name", "built.example", "--keys", str(tmp_path / "keys")
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert _without_proc("repo", "show", str(store)).returncode == 0


def _without_proc(*words: str) -> "subprocess.CompletedProcess[str]":
    command = ["unshare", "--mount", "sh", "-c", 'umount -l /proc; exec "$@"', "sh"]
    command += [sys.executable, "-m", "lazyfs", *words]
    return subprocess.run(command, check=False, capture_output=True, text=True)
