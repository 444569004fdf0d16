"""The argument list for bwrap. test_run.py tests the effect of the arguments."""

from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.bubblewrap import Bubblewrap
from lazyfs.runtimes.launch import Bind, Launch


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for directory in ("proc", "dev", "tmp", "etc", "srv/data"):
        (tmp_path / "root" / directory).mkdir(parents=True)
    (tmp_path / "root/etc/hosts").touch()
    (tmp_path / "root/etc/resolv.conf").touch()
    (tmp_path / "root/lib").symlink_to("usr/lib")
    (tmp_path / "host").mkdir()
    return tmp_path / "root"


def plan(root: Path, *binds: Bind) -> list[tuple[str, ...]]:
    """Returns the arguments, one tuple per option."""
    built = Bubblewrap().plan(Launch(str(root), ("sh", "-c", "x"), {"A": "b"}, binds=binds))
    arguments = built.shown[1 : built.shown.index("--")]
    options: list[tuple[str, ...]] = []
    for argument in arguments:
        if argument.startswith("--"):
            options.append((argument,))
        else:
            options[-1] = (*options[-1], argument)
    return options


def test_a_complete_image_is_bound_whole_and_read_only(root: Path) -> None:
    options = plan(root)
    assert ("--ro-bind", str(root), "/") in options
    assert not [option for option in options if option[0] in ("--bind", "--symlink", "--remount-ro", "--dir")]


def test_the_environment_is_cleared_and_is_not_in_the_visible_argv(root: Path) -> None:
    built = Bubblewrap().plan(Launch(str(root), ("sh",), {"TOKEN": "secret"}))
    assert built.shown.index("--clearenv") < built.shown.index("--setenv")
    assert "secret" in built.shown
    assert "secret" not in " ".join(built.options)
    assert [b"\0--setenv\0TOKEN\0secret\0" in content for content in built.files.values()].count(True) == 1


def test_a_missing_target_covers_only_the_directory_that_lacks_it(root: Path, tmp_path: Path) -> None:
    options = plan(root, Bind(str(tmp_path / "host"), "/srv/a/b"))
    assert ("--ro-bind", str(root), "/") in options
    covered = [option for option in options if option == ("--tmpfs", "/srv")]
    shown = options.index(("--ro-bind", str(root / "srv/data"), "/srv/data"))
    bound = options.index(("--bind", str(tmp_path / "host"), "/srv/a/b"))
    assert len(covered) == 1
    assert options.index(covered[0]) < shown < bound < options.index(("--remount-ro", "/srv"))
    assert ("--dir", "/srv/a") in options


def test_a_target_missing_at_the_top_builds_the_root_from_its_parts(root: Path, tmp_path: Path) -> None:
    options = plan(root, Bind(str(tmp_path / "host"), "/cvmfs", read_only=True))
    assert ("--ro-bind", str(root), "/") not in options
    assert ("--symlink", "usr/lib", "/lib") in options
    assert ("--ro-bind", str(root / "etc"), "/etc") in options
    assert ("--ro-bind", str(tmp_path / "host"), "/cvmfs") in options
    assert options.index(("--remount-ro", "/")) > options.index(
        ("--ro-bind", str(tmp_path / "host"), "/cvmfs")
    )


def test_outer_binds_come_first_whatever_the_order_they_were_given_in(root: Path, tmp_path: Path) -> None:
    (tmp_path / "host/inner").mkdir()
    host = str(tmp_path / "host")
    options = plan(root, Bind("/usr", "/srv/inner"), Bind(host, "/srv"))
    assert options.index(("--bind", host, "/srv")) < options.index(("--bind", "/usr", "/srv/inner"))


def test_nothing_is_made_on_the_host(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"/srv/new: .*/host/new does not exist"):
        plan(root, Bind(str(tmp_path / "host"), "/srv"), Bind("/usr", "/srv/new"))


def test_a_file_over_a_directory_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="the source is a file, the image has a directory"):
        plan(root, Bind(str(tmp_path / "file"), "/srv"))
    with pytest.raises(UsageError, match="the source is a directory, the image has a file"):
        plan(root, Bind(str(tmp_path / "host"), "/etc/hosts"))


def test_the_hosts_resolver_gives_way_to_a_bind_of_the_callers_own(root: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    options = plan(root, Bind(str(tmp_path / "mine"), "/etc/resolv.conf"))
    assert [o for o in options if o[-1] == "/etc/resolv.conf"] == [
        ("--bind", str(tmp_path / "mine"), "/etc/resolv.conf")
    ]


def test_more_arguments_than_bwrap_takes_are_refused_with_the_reason(root: Path) -> None:
    with pytest.raises(UsageError, match="bwrap takes 9000: too many variables or binds"):
        Bubblewrap().plan(Launch(str(root), ("sh",), {f"V{number}": "x" for number in range(3000)}))


def test_root_gets_no_capability_and_a_covered_proc_and_a_user_keeps_what_nested_sandboxes_need(
    root: Path,
) -> None:
    def shown(*, as_root: bool) -> tuple[str, ...]:
        return Bubblewrap().plan(Launch(str(root), ("sh",), as_root=as_root)).shown

    added = [word for word in shown(as_root=True) if word not in shown(as_root=False)]
    assert added[:2] == ["--cap-drop", "ALL"]
    assert "/proc/sys" in added
    assert not [word for word in shown(as_root=False) if word.startswith("/proc/")]
