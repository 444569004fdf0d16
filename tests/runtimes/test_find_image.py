import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.find_image import FoundImage, NodeMounts, _own_numbers, find, node_mounts, sort_mounts
from lazyfs.runtimes.image_defaults import ImageDefaults, describe
from lazyfs.system.mount_table import Mount
from lazyfs.system.mountpoint import mounts
from tests.support.cli import lazyfs, new_repository, status
from tests.support.processes import gone
from tests.support.until import until


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    """Makes a repository's tree: two registries, one tag in both, and metadata beside them."""
    flat = tmp_path / ".flat/ab/abcd"
    flat.mkdir(parents=True)
    (tmp_path / ".flat/cd/cdef").mkdir(parents=True)
    for registry, name, digest in (
        ("one.example", "library/alpine:3", "ab/abcd"),
        ("one.example", "library/alpine:latest", "ab/abcd"),
        ("two.example", "library/alpine:latest", "ab/abcd"),
        ("one.example", "tool:1", "ab/abcd"),
        ("two.example", "tool:1", "cd/cdef"),
    ):
        link = tmp_path / registry / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(tmp_path / ".flat" / digest)
    (tmp_path / ".metadata/one.example/library/alpine:3").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outside")


def test_a_name_is_found_with_and_without_registry_and_tag(mount: Path) -> None:
    root = str(mount / ".flat/ab/abcd")
    path = str(mount / "one.example/library/alpine:3")
    expected = FoundImage(root, str(mount / ".metadata/one.example/library/alpine:3"), path)
    assert find("one.example/library/alpine:3", NodeMounts([str(mount)])) == expected
    assert find("library/alpine:3", NodeMounts([str(mount)])) == expected
    assert find(path, NodeMounts([str(mount)])) == expected
    assert find("library/alpine", NodeMounts([str(mount)])).root == root
    assert find("alpine", NodeMounts([str(mount)])).root == root
    assert find("alpine", NodeMounts(["/a/mount/that/does/not/answer", str(mount)])).root == root


def test_the_same_name_for_two_images_is_refused(mount: Path) -> None:
    with pytest.raises(UsageError, match=r"tool:1 is ambiguous; give one of: .*one\.example.*two\.example"):
        find("tool:1", NodeMounts([str(mount)]))


def test_what_is_not_there_is_named(mount: Path) -> None:
    with pytest.raises(UsageError, match=r"none \(docker.io/library/none:latest\): not found in ") as raised:
        find("library/none", NodeMounts([str(mount)]))
    assert "lazyfs refresh MOUNTPOINT" in str(raised.value)
    with pytest.raises(UsageError, match="nothing is mounted"):
        find("library/none", NodeMounts([]))
    with pytest.raises(UsageError, match="no such directory"):
        find(str(mount / "none"), NodeMounts([]))


@pytest.mark.parametrize("target", ["/", "../../../../../../../..", "..", "/proc/self/root", "outside"])
def test_a_link_in_a_published_tree_does_not_make_the_host_the_image(
    mount: Path, outside: Path, target: str
) -> None:
    (mount / "app:1").symlink_to(os.path.relpath(outside, mount) if target == "outside" else target)
    for name in ("app:1", str(mount / "app:1"), f"{mount}/app:1/etc"):
        with pytest.raises(UsageError, match=f"a link in {mount} leads out of it|not found in"):
            find(name, NodeMounts([str(mount)]))
        with pytest.raises(UsageError, match=f"a link in {mount} leads out of it"):
            find(str(mount / "app:1"), NodeMounts([], [str(mount)]))


def test_a_link_in_the_metadata_does_not_bring_a_configuration_of_the_host(
    mount: Path, outside: Path
) -> None:
    (mount / ".metadata/two.example/library").mkdir(parents=True)
    (outside / "config.json").write_text("{}")
    (mount / ".metadata/two.example/library/alpine:latest").symlink_to(outside)
    with pytest.raises(UsageError, match="leads out of it"):
        find("two.example/library/alpine", NodeMounts([str(mount)]))
    (mount / ".metadata/one.example/library/alpine:3/config.json").symlink_to("/etc/passwd")
    metadata = find("one.example/library/alpine:3", NodeMounts([str(mount)])).metadata
    assert describe("/r", metadata) == ImageDefaults("/r")


def test_a_hostile_repository_beside_an_honest_one_only_loses_its_own_names(
    mount: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    hostile = tmp_path_factory.mktemp("hostile")
    for name in ("one.example", "library", "alpine:latest", ".metadata"):
        (hostile / name).symlink_to("/")
    assert find("library/alpine", NodeMounts([str(hostile), str(mount)])).root == f"{mount}/.flat/ab/abcd"


def test_a_name_with_parents_in_it_stays_in_the_mount(mount: Path) -> None:
    with pytest.raises(UsageError, match="not found in"):
        find("library/../../../../etc", NodeMounts([str(mount)]))
    with pytest.raises(UsageError, match="not found in"):
        find("x/../../etc@sha256:0", NodeMounts([str(mount)]))


def test_mounts_of_other_users_are_not_searched(mount: Path) -> None:
    def made_by(owner: str, path: str, fstype: str = "fuse.lazyfs") -> Mount:
        return Mount("0:50", path, fstype, "s", f"rw,nosuid rw{owner},group_id=0,allow_other")

    made = [
        made_by(",user_id=0", "/roots"),
        made_by(",user_id=1000", "/mine"),
        made_by(",user_id=1001", "/theirs"),
        made_by("", "/nobodys"),
        made_by(",user_id=0", "/other", "fuse.sshfs"),
    ]
    node = sort_mounts(made, lambda mount: mount.owner in (0, 1000))
    assert (node.searched, node.foreign) == (("/mine", "/roots"), ("/nobodys", "/theirs"))
    with pytest.raises(UsageError, match=f"not looked for in mounts of other users: {mount}; give a path"):
        find("library/alpine", NodeMounts([str(mount / ".flat/cd")], [str(mount)]))
    with pytest.raises(UsageError, match=f"nothing is mounted on this node .*other users: {mount}"):
        find("library/alpine", NodeMounts([], [str(mount)]))
    root = f"{mount}/.flat/ab/abcd"
    assert find(f"{mount}/one.example/library/alpine:3", NodeMounts([], [str(mount)])).root == root


@pytest.mark.root
def test_a_daemon_that_root_started_and_that_became_a_user_serves_roots_mount(
    open_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAZYFS_RUNTIME_DIR", raising=False)
    store, keys = new_repository(open_path)
    (open_path / "tree").mkdir()
    lazyfs("publish", f"dir:{open_path / 'tree'}", store, "--as", "example/tree:1", "--keys", keys)
    mnt = open_path / "mnt"
    mnt.mkdir()
    lazyfs("mount", store, mnt, "--cache", open_path / "cache", "--user", "nobody", "--no-keeper")
    try:
        (made,) = [one for one in mounts() if one.mountpoint == str(mnt)]
        assert made.owner == pwd.getpwnam("nobody").pw_uid
        assert str(mnt) in node_mounts().searched
        daemon = status(mnt)["pid"]
        os.kill(daemon, signal.SIGKILL)
        until(lambda: gone(daemon))
        until(lambda: str(mnt) in node_mounts().foreign)  # the socket is left over, and nobody answers there
    finally:
        lazyfs("umount", mnt)


_SILENT = """
import ctypes, os, subprocess, sys
device = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={device},rootmode=40000,user_id={sys.argv[2]},group_id=0,allow_other".encode()
libc = ctypes.CDLL(None, use_errno=True)
assert libc.mount(b"silent", sys.argv[1].encode(), b"fuse.lazyfs", 0, options) == 0, ctypes.get_errno()
done = subprocess.run(sys.argv[3:], timeout=25, check=False)
os.close(device)  # ends whoever still waits
sys.exit(done.returncode)
"""


@pytest.mark.root
@pytest.mark.parametrize("owner", ["0", "54321"])
def test_a_filesystem_that_calls_itself_ours_and_never_answers_stops_nobody(
    mount: Path, tmp_path_factory: pytest.TempPathFactory, owner: str
) -> None:
    """The names are looked up as in `lazyfs run`, with a directory in place of an honest mount. The silent
    filesystem is mounted in a mount namespace of its own. Without a time limit, the look-up would last until
    that filesystem is unmounted."""
    silent = tmp_path_factory.mktemp("silent")
    script = (
        "import sys; from lazyfs.runtimes.find_image import *; node = node_mounts()\n"
        "print([sys.argv[1] in mounts for mounts in (node.searched, node.foreign)])\n"
        "print(find('alpine', NodeMounts([*node.searched, sys.argv[2]], node.foreign)).root)"
    )
    command = [sys.executable, "-c", script, str(silent), str(mount)]
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", _SILENT, str(silent), owner, *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == f"{[owner == '0', owner != '0']}\n{mount}/.flat/ab/abcd\n", done.stderr


def _hang(mount: Path, *places: str, digest: str = "ab/abcd") -> str:
    (mount / ".flat" / digest).mkdir(parents=True, exist_ok=True)
    for place in places:
        link = mount / place
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(mount / ".flat" / digest)
    return str(mount)


@pytest.mark.parametrize("published", ["docker.io", "index.docker.io", "registry.hub.docker.com"])
@pytest.mark.parametrize("written", ["", "docker.io/", "registry-1.docker.io/", "index.docker.io/library/"])
def test_docker_hub_has_one_name(tmp_path: Path, published: str, written: str) -> None:
    mount = _hang(tmp_path, f"{published}/library/debian:latest")
    found = find(f"{written}debian", NodeMounts([mount]))
    assert found.path == f"{mount}/{published}/library/debian:latest"


def test_of_two_mounts_of_a_repository_the_latest_is_taken(tmp_path: Path) -> None:
    new = _hang(tmp_path / "new", "docker.io/library/app:1", digest="cd/cdef")
    old = _hang(tmp_path / "old", "docker.io/library/app:1", digest="ab/abcd")
    same = {new: "http://origin/r", old: "http://origin/r"}
    assert find("app:1", NodeMounts([new, old], sources=same)).root == f"{new}/.flat/cd/cdef"
    assert find("app:1", NodeMounts([old, new], sources=same)).root == f"{old}/.flat/ab/abcd"


def test_a_repository_cannot_claim_to_have_anothers_image(tmp_path: Path) -> None:
    one = _hang(tmp_path / "one", "docker.io/library/app:1")
    other = _hang(tmp_path / "other", "docker.io/library/app:1")
    with pytest.raises(UsageError, match="app:1 is ambiguous"):
        find("app:1", NodeMounts([one, other], sources={one: "http://origin/r", other: "http://origin/s"}))


def test_docker_hub_comes_before_other_registries(tmp_path: Path) -> None:
    mount = _hang(tmp_path, "docker.io/library/tool:1")
    _hang(tmp_path, "one.example/tool:1", digest="cd/cdef")
    assert find("tool:1", NodeMounts([mount])).path == f"{mount}/docker.io/library/tool:1"


def test_each_repository_of_a_site_is_a_tree_of_its_own(tmp_path: Path) -> None:
    _hang(tmp_path / "one.repo", "docker.io/library/debian:latest")
    _hang(tmp_path / "two.repo", "docker.io/library/alpine:3", digest="cd/cdef")
    site = NodeMounts([str(tmp_path)], sites=frozenset([str(tmp_path)]))
    assert find("debian", site).path == f"{tmp_path}/one.repo/docker.io/library/debian:latest"
    assert find("index.docker.io/alpine:3", site).root == f"{tmp_path}/two.repo/.flat/cd/cdef"
    with pytest.raises(UsageError, match=r"there are one\.repo/docker\.io/library/debian:latest"):
        find("debian:12", site)
    _hang(tmp_path / "two.repo", "docker.io/library/debian:latest")
    with pytest.raises(UsageError, match="debian is ambiguous"):
        find("debian", site)


def test_what_is_near_is_suggested_with_its_whole_name(mount: Path) -> None:
    _hang(mount, "docker.io/library/debian:bookworm", "docker.io/library/debian:sid")
    for name in ("debian:12", "debain:bookworm", "docker.io/library/debain"):
        with pytest.raises(
            UsageError, match=r"not found in .*; there are .*docker\.io/library/debian:bookworm"
        ):
            find(name, NodeMounts([str(mount)]))
    with pytest.raises(UsageError, match=r"one.exmaple.* there are one\.example/tool:1"):
        find("one.exmaple/tool:1", NodeMounts([str(mount)]))


@pytest.mark.root
def test_the_caller_is_known_by_the_number_that_mounts_carry_outside_a_user_namespace() -> None:
    script = "import os; from lazyfs.runtimes.find_image import _own_numbers\n"
    script += "print(sorted(_own_numbers(os.getuid())))"
    command = ["unshare", "--user", "--map-user=1000", sys.executable, "-c", script]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[0, 1000]\n"
    assert _own_numbers(os.getuid()) == {os.getuid()}
