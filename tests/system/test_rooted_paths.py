"""Lookups below a directory with hostile contents, by openat2 and by the fallback for older kernels."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lazyfs.system import rooted_paths
from lazyfs.system.rooted_paths import locate, open_in_root, open_without_links


@pytest.fixture(params=["openat2", "by steps"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Selects openat2 or the fallback. For `by steps`, openat2's system call number is one that no kernel
    has, so that the call fails with ENOSYS as on an old kernel."""
    if request.param == "by steps":
        monkeypatch.setattr(rooted_paths, "_SYS_OPENAT2", 100_000)
    return str(request.param)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    top = tmp_path / "top"
    (top / "etc").mkdir(parents=True)
    (top / "etc/file").write_text("inside")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/file").write_text("outside")
    for name, target in {
        "absolute": "/etc/file",
        "up": "../../../etc/file",
        "relative": "etc/file",
        "directory": "etc",
        "host": str(tmp_path),
        "loop": "loop",
    }.items():
        (top / name).symlink_to(target)
    number = os.open(top, os.O_PATH | os.O_DIRECTORY)
    yield number
    os.close(number)


def content(number: int) -> str:
    with open(number) as file:
        return file.read()


@pytest.mark.usefixtures("how")
@pytest.mark.parametrize("path", ["/absolute", "up", "relative", "directory/file", "../../etc/file"])
def test_links_and_parents_stay_inside_the_root(root: int, path: str) -> None:
    assert content(open_in_root(root, path, os.O_RDONLY)) == "inside"


@pytest.mark.usefixtures("how")
@pytest.mark.parametrize("path", ["/host/etc/file", "loop", "etc/file/x", "none", "a\0b"])
def test_what_the_root_does_not_have_is_not_opened(root: int, path: str) -> None:
    with pytest.raises((OSError, ValueError)):
        open_in_root(root, path, os.O_RDONLY)


@pytest.mark.usefixtures("how")
def test_without_links_no_link_is_followed_and_nothing_above_is_reached(root: int) -> None:
    assert content(open_without_links(root, "/etc/file", os.O_RDONLY)) == "inside"
    for path in ("absolute", "relative", "directory/file", "etc/../etc/file", ".."):
        with pytest.raises(OSError, match=path.split("/")[0]):
            os.close(open_without_links(root, path, os.O_RDONLY))


@pytest.mark.usefixtures("how")
@pytest.mark.parametrize("link", ["self/root", "self/cwd", "self/fd/0", "1/root", "thread-self/root"])
def test_links_of_proc_that_lead_anywhere_are_not_followed(link: str) -> None:
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError, match="Errno"):
            os.close(open_without_links(proc, f"{link}/etc", os.O_PATH))
        # ELOOP, or ENOENT if the text of the link is looked up below the root
        with pytest.raises(OSError, match="Errno"):
            os.close(open_in_root(proc, f"{link}/etc", os.O_PATH))
    finally:
        os.close(proc)


def test_a_walk_ends_where_something_else_is_mounted(root: int) -> None:
    place = locate(root, "/directory/new/deep", stops={"/etc"})
    assert (place.found, place.rest, place.stopped, place.linked) == ("/etc", ("new", "deep"), True, True)
    place = locate(root, "/none/x/y/z", stops={"/none/x", "/none/x/y"})
    assert (place.found, place.rest, place.stopped) == ("/none/x", ("y", "z"), True)
    place = locate(root, "/none/x/y", stops={"/none/x/y/z", "/x"})
    assert (place.found, place.rest, place.stopped) == ("/", ("none", "x", "y"), False)
    with pytest.raises(FileNotFoundError):
        locate(root, "/none/../x/y", stops={"/x"})


def test_a_path_of_a_thousand_steps_takes_one_descriptor(root: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert locate(root, "/etc/.." * 600 + "/etc/file").found == "/etc/file"
    assert len(os.listdir("/proc/self/fd")) == before


_PARTS = st.sampled_from(["..", "etc", "file", "absolute", "up", "directory", "host", "loop", "new"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(_PARTS, max_size=8))
def test_the_walk_finds_what_the_kernel_finds(root: int, parts: list[str]) -> None:
    path = "/" + "/".join(parts)
    try:
        number = open_in_root(root, path, os.O_PATH)
    except OSError:
        number = -1
    try:
        place = locate(root, path)
    except OSError:
        assert number == -1
        return
    assert (number == -1) == bool(place.rest)
    if number != -1:
        top = os.readlink(f"/proc/self/fd/{root}")
        assert os.readlink(f"/proc/self/fd/{number}") == (top + place.found).rstrip("/")
        assert os.stat(number).st_mode == os.stat(top + place.found).st_mode
        os.close(number)
