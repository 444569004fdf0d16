"""No mount point is at a place on the host that an image, or an earlier bind, has chosen."""

import os
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.bind_places import BindPlace, arrange, mount_points
from lazyfs.runtimes.launch import Bind

RESOLVER = Bind("/etc/resolv.conf", "/etc/resolv.conf", read_only=True)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    root = tmp_path / "image"
    for directory in ("etc", "srv", "proc", "dev", "tmp"):
        (root / directory).mkdir(parents=True)
    (root / "etc/resolv.conf").touch()
    return root


@pytest.fixture
def host(tmp_path: Path) -> Path:
    (tmp_path / "host/inner").mkdir(parents=True)
    (tmp_path / "host/file").touch()
    return tmp_path / "host"


def places(image: Path, *binds: Bind) -> list[str]:
    return [place.path for _, place in arrange(str(image), binds, ()).binds]


def link(image: Path, name: str, target: str, *existing: str) -> None:
    """Makes a link at the path `name` in the image. Also makes the directories `existing` in the image, to
    which the link seems to lead."""
    place = image / name
    if not place.is_symlink() and place.is_dir():
        place.rmdir()
    place.unlink(missing_ok=True)
    place.symlink_to(target)
    for path in existing:
        (image / path).mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize(
    "target",
    [
        "/proc/1/root/oldroot/home",
        "/proc/self/root/oldroot/home",
        "/proc/self/cwd/x",
        "/proc/self/fd/3/x",
        "/proc/1/root",
        "/proc",
        "../../proc/1/cwd",
        "/dev/fd/9/x",
        "/dev/stdin",
        "/dev/shm",
        "/dev",
        "/",
        "../..",
    ],
)
def test_a_target_that_the_image_leads_into_something_mounted_inside_is_refused(
    image: Path, host: Path, target: str
) -> None:
    link(image, "data", target)
    for exists in (False, True):
        if exists:
            (image / target.lstrip("/.")).mkdir(parents=True, exist_ok=True)
        for bind in (Bind(str(host), "/data"), Bind(str(host), "/data/deep/er")):
            if target in ("/", "../..") and bind.target != "/data":
                continue  # an ordinary directory of the image
            with pytest.raises(UsageError, match=f"bind target {bind.target}: leads"):
                places(image, bind)


@pytest.mark.parametrize(
    "target", ["/proc", "/proc/sys/kernel", "/proc/1/root/x", "/dev/fd/3", "/dev/stdout"]
)
def test_the_callers_own_targets_there_are_refused_too(image: Path, host: Path, target: str) -> None:
    with pytest.raises(UsageError, match=f"bind target {target}: leads"):
        places(image, Bind(str(host), target))


@pytest.mark.parametrize(
    "target", ["/proc/1/root/oldroot/home", "/proc/self/cwd", "/dev/shm", "/dev/fd/1", "/", "/proc", "../dev"]
)
def test_an_image_whose_tmp_leads_there_is_refused(image: Path, target: str) -> None:
    link(image, "tmp", target, target.lstrip("/.") or "x")
    with pytest.raises(UsageError, match="its /tmp leads to /"):
        places(image)


@pytest.mark.parametrize("name", ["proc", "dev"])
@pytest.mark.parametrize("target", ["/etc", "/oldroot/home", "../../../..", "/proc/1/root", "nothing"])
def test_an_image_whose_proc_or_dev_is_a_link_is_refused(image: Path, name: str, target: str) -> None:
    link(image, name, target)
    with pytest.raises(UsageError, match=f"its /{name} is a link"):
        places(image)


def test_what_name_lookups_need_is_left_out_where_the_image_leads_elsewhere(image: Path) -> None:
    for target in ("/proc/1/root/oldroot/made", "/proc/self/cwd/made", "/dev/fd/9", "/tmp/x", "/", "/etc"):
        link(image, "etc/resolv.conf", target, "proc/1/root/oldroot/made", "proc/self/cwd/made")
        assert arrange(str(image), (), (RESOLVER,)).binds == ()
    link(image, "etc/resolv.conf", "../run/resolve/stub.conf")
    assert arrange(str(image), (), (RESOLVER,)).binds == (
        (RESOLVER, BindPlace("/run/resolve/stub.conf", "/")),
    )


def test_a_target_below_tmp_goes_where_tmp_really_is(image: Path, host: Path) -> None:
    """The image has a link `/tmp -> /oldroot/home`. A runtime that resolved the target itself would make the
    mount point on the host."""
    link(image, "tmp", "/oldroot/home")
    assert places(image, Bind(str(host), "/tmp/new/place")) == ["/oldroot/home/new/place"]
    link(image, "srv/scratch", "/tmp")
    assert places(image, Bind(str(host), "/srv/scratch/x")) == ["/oldroot/home/x"]


@pytest.mark.parametrize("target", ["/oldroot/etc", "../../etc", "/etc/passwd", "nothing"])
def test_a_link_in_a_folder_bound_before_is_not_followed(image: Path, host: Path, target: str) -> None:
    (host / "link").symlink_to(target)
    for inner in ("/srv/link", "/srv/link/x"):
        with pytest.raises(UsageError, match="bind target"):
            places(image, Bind(str(host), "/srv"), Bind("/usr", inner))
    with pytest.raises(UsageError, match="bind target"):
        places(image, Bind(str(host), "/srv"), Bind("/etc/hosts", "/srv/link"))


def test_links_of_proc_in_a_bind_of_the_whole_host_are_not_followed(image: Path, host: Path) -> None:
    for inner in ("/srv/proc/self/root/tmp", "/srv/proc/1/cwd", "/srv/proc/self/fd/0"):
        with pytest.raises(UsageError, match="bind target"):
            places(image, Bind("/", "/srv"), Bind(str(host), inner))


def test_the_image_cannot_lead_into_a_folder_bound_before(image: Path, host: Path) -> None:
    """The image's link ends in the bound folder. The missing rest of the path would be made there, on the
    host."""
    link(image, "data", "/srv/made/by/image")
    with pytest.raises(UsageError, match="does not exist on this machine"):
        places(image, Bind(str(host), "/srv"), Bind("/usr", "/data"))
    link(image, "data", "/srv/inner/../../x")
    with pytest.raises(UsageError, match="give the path without links"):
        places(image, Bind(str(host), "/srv"), Bind("/usr", "/data"))


def test_ordinary_targets_go_where_they_are_written(image: Path, host: Path) -> None:
    binds = [Bind(str(host), target) for target in ("/srv", "/tmp", "/dev/x/y", "/dev/shm", "/new/place")]
    assert sorted(places(image, *binds)) == ["/dev/shm", "/dev/x/y", "/new/place", "/srv", "/tmp"]
    assert places(image, Bind("/dev", "/dev"), Bind("/dev/null", "/dev/null")) == ["/dev", "/dev/null"]
    nested = [Bind(str(host), "/tmp/a"), Bind("/usr", "/tmp/a/inner")]
    assert places(image, *nested) == [
        "/tmp/a",
        "/tmp/a/inner",
    ]
    with pytest.raises(UsageError, match="the source is a file, the image has a directory"):
        places(image, Bind(str(host / "file"), "/tmp"))


def _each_order(image: Path, *binds: Bind) -> list[tuple[str, str]]:
    """Returns the sources and mount points of binds in the order of mounting, which must be the same in
    whatever order the binds are given."""
    found = [
        [(bind.source, place.path) for bind, place in arrange(str(image), each, ()).binds]
        for each in permutations(binds)
    ]
    assert all(one == found[0] for one in found)
    return found[0]


def test_what_a_link_of_the_image_leads_into_another_bind_is_mounted_after_it(
    image: Path, tmp_path: Path
) -> None:
    link(image, "data", "/mnt/big/data", "mnt/big/data")
    outer, inner = tmp_path / "outer", tmp_path / "inner"
    (outer / "big/data").mkdir(parents=True)
    inner.mkdir()
    binds = (Bind(str(inner), "/data", required=True), Bind(str(outer), "/mnt"))
    assert _each_order(image, *binds) == [(str(outer), "/mnt"), (str(inner), "/mnt/big/data")]
    (outer / "big/data").rmdir()
    for each in permutations(binds):
        with pytest.raises(UsageError, match=f"{outer}/big/data does not exist on this machine"):
            places(image, *each)


def test_a_link_of_the_image_that_another_bind_covers_is_not_followed(image: Path, tmp_path: Path) -> None:
    link(image, "etc/current", "/x")
    (tmp_path / "outer/current").mkdir(parents=True)
    (tmp_path / "inner").mkdir()
    binds = (Bind(str(tmp_path / "inner"), "/etc/current"), Bind(str(tmp_path / "outer"), "/etc"))
    assert [place for _, place in _each_order(image, *binds)] == ["/etc", "/etc/current"]
    assert mount_points(str(image), binds).all == {"/proc", "/dev", "/tmp", "/etc", "/etc/current"}


def test_a_place_in_a_bind_that_the_image_lacks_has_to_exist(image: Path, host: Path) -> None:
    """bubblewrap would make it in the bound directory of the machine."""
    for each in permutations((Bind(str(host), "/made/deep"), Bind("/usr", "/made/deep/new"))):
        with pytest.raises(UsageError, match=f"{host}/new does not exist on this machine"):
            places(image, *each)
    binds = (Bind(str(host), "/made/deep"), Bind("/usr", "/made/deep/inner"))
    assert _each_order(image, *binds) == [(str(host), "/made/deep"), ("/usr", "/made/deep/inner")]


def test_two_sources_at_one_place_are_refused(image: Path, host: Path) -> None:
    link(image, "data", "/srv")
    for target in ("/srv", "/data"):
        binds = (Bind(str(host), "/srv", required=True), Bind("/usr", target))
        for each in permutations(binds):
            with pytest.raises(UsageError, match="at /srv too, and one would cover the other"):
                places(image, *each)


def test_a_bind_given_twice_is_made_once_and_read_only_if_one_is(image: Path, host: Path) -> None:
    link(image, "data", "/srv")
    for each in permutations((Bind(str(host), "/srv"), Bind(str(host), "/data", read_only=True))):
        ((bind, place),) = arrange(str(image), each, ()).binds
        assert (bind.source, bind.read_only, place.path) == (str(host), True, "/srv")


def test_a_bind_around_the_images_tmp_is_refused(image: Path, host: Path) -> None:
    """Some runtimes would make the mount point of /tmp in the bound directory."""
    link(image, "tmp", "/var/tmp", "var/tmp")
    with pytest.raises(
        UsageError, match="bind target /var: covers /var/tmp, to which the image's /tmp leads"
    ):
        places(image, Bind(str(host), "/var"))
    assert places(image, Bind(str(host), "/var/lib")) == ["/var/lib"]


def test_links_that_lead_through_one_another_end(image: Path, host: Path) -> None:
    """Each target leads through the place of the other, so that each would have to be mounted first."""
    link(image, "first", "/srv/link", "etc/x")
    link(image, "srv/link", "/etc/x")
    link(image, "second", "/etc/x/link")
    link(image, "etc/x/link", "/srv")
    for each in permutations((Bind(str(host), "/first"), Bind(str(host / "inner"), "/second"))):
        with pytest.raises(UsageError, match="bind targets /first, /second: the image's links lead from one"):
            places(image, *each)


_NAMES = st.sampled_from(["etc", "srv", "proc", "dev", "tmp", "data", "1", "root", "fd", "oldroot", "new"])
_PATHS = st.lists(st.one_of(_NAMES, st.just("..")), min_size=1, max_size=5).map("/".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    links=st.dictionaries(_NAMES, st.one_of(_PATHS, _PATHS.map("/{}".format)), max_size=5),
    directories=st.lists(_PATHS.filter(lambda path: ".." not in path), max_size=4),
    targets=st.lists(_PATHS.filter(lambda path: ".." not in path), min_size=1, max_size=3),
)
def test_whatever_the_links_every_place_is_plain_and_in_the_image(
    tmp_path_factory: pytest.TempPathFactory,
    host: Path,
    links: dict[str, str],
    directories: list[str],
    targets: list[str],
) -> None:
    root = tmp_path_factory.mktemp("image")
    for path in directories:  # before the links, because through these they would be made outside the image
        (root / path).mkdir(parents=True, exist_ok=True)
    for name, target in links.items():
        if not (root / name).exists():
            (root / name).symlink_to(target)
    sources = [host / "inner", host, host / "inner"]
    binds = [Bind(str(source), f"/{target}") for source, target in zip(sources, targets, strict=False)]
    try:
        found = arrange(str(root), binds, (RESOLVER,))
    except UsageError:
        with pytest.raises(UsageError):
            arrange(str(root), binds[::-1], (RESOLVER,))
        return
    turned = arrange(str(root), binds[::-1], (RESOLVER,))
    assert {(bind.source, place) for bind, place in turned.binds} == {
        (bind.source, place) for bind, place in found.binds
    }
    assert (found.proc.path, found.dev.path) == ("/proc", "/dev")
    mounted = {place.path for place in found.places}
    for place in found.places:
        parts = place.path.split("/")[1:]
        assert ".." not in parts
        assert parts[0] != "proc" or place is found.proc
        assert parts[:2] != ["dev", "fd"]
        for depth in range(1, len(parts) + 1):
            prefix = "/" + "/".join(parts[:depth])
            if prefix in mounted:
                break  # the rest of the path lies in another mount
            assert not os.path.islink(str(root) + prefix)
