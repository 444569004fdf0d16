"""The links inside a mount never lead out of the mount."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lazyfs.core.errors import UsageError
from lazyfs.system.paths_in_mounts import PathInMount, resolve_among_mounts


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    top = tmp_path / "mount"
    (top / "tree/deep").mkdir(parents=True)
    (top / "other").mkdir()
    (tmp_path / "second").mkdir()
    (tmp_path / "home").mkdir()
    return top


def resolve(path: Path, mount: Path) -> PathInMount:
    return resolve_among_mounts(str(path), [str(mount), str(mount.parent / "second")])


@pytest.mark.parametrize(
    "target", ["tree/deep", "other/../tree/deep", "{mount}/tree/deep", "{mount}/./tree/deep/"]
)
def test_links_within_the_mount_are_followed(mount: Path, target: str) -> None:
    (mount / "link").symlink_to(target.format(mount=mount))
    assert resolve(mount / "link", mount) == PathInMount(f"{mount}/tree/deep", str(mount))


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "..",
        "../home",
        "../../../../..",
        "{mount}/../home",
        "../second",
        "../mount/tree",
        "/proc/self/cwd",
        "{mount}x",
    ],
)
@pytest.mark.parametrize("below", ["", "/etc/passwd"])
def test_links_out_of_the_mount_are_refused(mount: Path, target: str, below: str) -> None:
    (mount / "link").symlink_to(target.format(mount=mount))
    with pytest.raises(UsageError, match=f"a link in {mount} leads out of it"):
        resolve(Path(f"{mount}/link{below}"), mount)


def test_a_chain_of_links_is_refused_at_the_one_that_leads_out(mount: Path) -> None:
    (mount / "first").symlink_to("tree/second")
    (mount / "tree/second").symlink_to("../other/third")
    (mount / "other/third").symlink_to("../../home")
    with pytest.raises(UsageError, match="leads out of it"):
        resolve(mount / "first", mount)


def test_the_callers_own_links_lead_wherever_they_like(mount: Path) -> None:
    (mount.parent / "mine").symlink_to(mount / "tree")
    assert resolve(mount.parent / "mine/deep", mount) == PathInMount(f"{mount}/tree/deep", str(mount))
    (mount.parent / "up").symlink_to("mount/../home")
    assert resolve(mount.parent / "up", mount) == PathInMount(f"{mount.parent}/home", None)


def test_a_mount_in_a_mount_is_entered_by_the_caller_only(mount: Path) -> None:
    tops = [str(mount), str(mount / "tree")]
    assert resolve_among_mounts(f"{mount}/tree/deep", tops).mount == f"{mount}/tree"
    (mount / "link").symlink_to("tree/deep")
    with pytest.raises(UsageError, match="leads out of it"):
        resolve_among_mounts(f"{mount}/link", tops)


def test_loops_and_missing_names_are_the_systems_errors(mount: Path) -> None:
    (mount / "loop").symlink_to("loop")
    for name in ("loop", "none", "link/none"):
        with pytest.raises(OSError, match=name.partition("/")[0]):
            resolve(mount / name, mount)


_NAMES = st.sampled_from(["a", "b", "c", "..", "."])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    links=st.dictionaries(st.sampled_from(["a", "b", "c", "a/b"]), st.lists(_NAMES, min_size=1, max_size=5)),
    absolute=st.booleans(),
    path=st.lists(_NAMES, max_size=5),
)
def test_what_is_found_below_a_mount_is_in_it(
    tmp_path_factory: pytest.TempPathFactory, links: dict[str, list[str]], absolute: bool, path: list[str]
) -> None:
    top = tmp_path_factory.mktemp("mount")
    for name in ("a", "b", "c"):
        if name not in links:
            (top / name / "c").mkdir(parents=True)
    for name, target in links.items():
        parent = (top / name).parent
        if not parent.is_symlink() and parent.is_dir() and not os.path.lexists(top / name):
            (top / name).symlink_to(os.path.join(str(top) if absolute else "", *target))
    asked = os.path.normpath(os.path.join(top, *path))
    try:
        found = resolve_among_mounts(asked, [str(top)])
    except (UsageError, OSError):
        return
    assert found.real == os.path.realpath(asked)
    if (asked + "/").startswith(f"{top}/"):
        assert (found.real + "/").startswith(f"{top}/")
        assert found.mount == str(top)
