"""The paths at which images are published: layouts of the tree, several platforms, aliases of folders, bind
points, collisions."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from lazyfs.core.catalog.entry import ADDED
from lazyfs.core.errors import UsageError
from lazyfs.core.oci.manifest import OCI_INDEX, Platform
from lazyfs.core.oci.reference import parse
from lazyfs.core.oci.start_files import bind_point
from lazyfs.core.wishlist.wish import Extras, Wish
from lazyfs.images.sources.open import ImageOptions
from lazyfs.repository.image_place import find_place
from lazyfs.sync.layout import ARCHITECTURES, architecture_folder, folder_links, link_target
from lazyfs.sync.settings import ServiceSettings
from lazyfs.sync.targets import Resolved, Targets, place_reference, targets
from tests.support.catalog_listing import open_tree
from tests.support.cli import lazyfs
from tests.support.oci_images import Built, entry, layer
from tests.support.registry import RealRegistry
from tests.support.repositories import Repository
from tests.support.service import ServiceSite, built, config_of, events_of


@pytest.fixture(scope="module")
def registry(real: RealRegistry) -> RealRegistry:
    return real


@pytest.fixture
def site(tmp_path: Path, registry: RealRegistry) -> ServiceSite:
    return ServiceSite(tmp_path / "site", {"docker.io": registry.host, "r.example": registry.host})


def put_index(registry: RealRegistry, repository: str, tag: str, *platforms: str) -> dict[str, Built]:
    """Uploads one image for each platform and an index of them under the tag."""
    images: dict[str, Built] = {}
    entries: list[object] = []
    for platform in platforms:
        system, architecture, *variant = platform.split("/")
        top: dict[str, Any] = {"variant": variant[0]} if variant else {}
        image = Built([layer(entry(platform))], architecture=architecture, os=system, **top)
        registry.put(image, repository, image.manifest["digest"])
        images[platform] = image
        entries.append({**image.manifest, "platform": {"os": system, "architecture": architecture, **top}})
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    registry.put_manifest(repository, tag, OCI_INDEX, index)
    return images


def test_docker_hubs_four_names_find_one_image(site: ServiceSite, registry: RealRegistry) -> None:
    registry.put(built("hub"), "library/alpine", "3.10.2")
    hosts = ("docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com")
    for host in hosts:
        site.wish(f"https://{host}/library/alpine:3.10.2")
        assert site.run().exit_code == 0
        assert list(site.images()) == ["docker.io/library/alpine:3.10.2"]
    for host in hosts:
        assert find_place(site.tree(), f"{host}/library/alpine:3.10.2") == "docker.io/library/alpine:3.10.2"
    links = site.links()
    assert {host: links[host] for host in hosts[1:]} == dict.fromkeys(hosts[1:], "docker.io")


def test_a_folder_of_an_earlier_publisher_stays_where_a_link_would_be(
    site: ServiceSite, registry: RealRegistry, tmp_path: Path
) -> None:
    (tmp_path / "tree").mkdir()
    site.repository.publish(f"dir:{tmp_path}/tree", place="registry.hub.docker.com/library/old")
    registry.put(built("hub"), "library/alpine", "3")
    site.wish("docker.io/library/alpine:3")
    assert site.run().exit_code == 0
    assert site.tree().find("registry.hub.docker.com/library/old") is not None
    assert "registry-1.docker.io" in site.links()


def test_several_platforms_hang_below_multiarch(site: ServiceSite, registry: RealRegistry) -> None:
    images = put_index(registry, "team/multi", "1", "linux/amd64", "linux/arm64/v8", "linux/arm/v7")
    site.list.write_text(
        "lazyfs: 1\nimages: [{image: 'r.example/team/multi:1', platforms: [amd64, arm64, linux/arm/v7]}]\n"
    )
    assert site.run().exit_code == 0
    links = site.links()
    plain = links["r.example/team/multi:1"].rpartition("/")[2]
    assert plain == config_of(images["linux/amd64"])
    for folder, platform in (
        ("amd64", "linux/amd64"),
        ("arm64", "linux/arm64/v8"),
        ("arm:v7", "linux/arm/v7"),
    ):
        path = f".multiarch/{folder}/r.example/team/multi:1"
        assert links[path].rpartition("/")[2] == config_of(images[platform])
        assert links[path].startswith("../../../../.flat/")
    assert links[".multiarch/x86_64"] == links[".multiarch/x86-64"] == "amd64"
    assert links[".multiarch/aarch64"] == links[".multiarch/arm64:v8"] == "arm64"
    assert links[".multiarch/armhf"] == "arm:v7"
    assert ".multiarch/i386" not in links
    assert site.run().unchanged == 1
    site.list.write_text("lazyfs: 1\nimages: [{image: 'r.example/team/multi:1', platforms: [amd64]}]\n")
    site.run()
    assert ".multiarch/arm64/r.example/team/multi:1" not in site.links()
    assert site.tree().find(".metadata/.multiarch/arm64/r.example/team/multi:1") is None
    assert site.repository.check().bad == 0


def test_an_image_without_a_wished_platform_fails_alone(site: ServiceSite, registry: RealRegistry) -> None:
    put_index(registry, "team/few", "1", "linux/amd64")
    site.list.write_text(
        "lazyfs: 1\nimages: [{image: 'r.example/team/few:1', platforms: [amd64, linux/s390x]}]\n"
    )
    report = site.run()
    assert events_of(report, "failed") == ["r.example/team/few:1"]
    assert "s390x" in report.events[0].reason
    assert site.images() == {}


def test_the_grids_layout_and_a_collision(site: ServiceSite, registry: RealRegistry) -> None:
    registry.put(built("one"), "team/app", "1")
    lists = [site.directory / "osg.txt", site.directory / "second.txt"]
    lists[0].write_text("team/app:1\n")
    lists[1].write_text("r.example/team/app:1\n")
    report = site.run(lists)
    links = site.links()
    assert links["team/app:1"] == "../" + links["docker.io/team/app:1"].removeprefix("../../")
    assert "r.example/team/app:1" in links
    assert any("docker.io/team/app:1 has team/app:1" in line for line in report.notices)
    assert report.exit_code == 0
    assert site.run(lists).unchanged == 2


def test_no_list_takes_the_path_of_another_registrys_image() -> None:
    def wished(*names: str) -> Targets:
        extras = Extras(layout="osg")
        return targets(
            [Resolved("list", Wish(1, parse(name), None, extras), [parse(name)]) for name in names], ""
        )

    for name in (
        "evil.example/docker.io/library/alpine:3",
        "evil.example/alpine:3",
        "evil.example/library/alpine:3",
    ):
        found = wished(name)
        assert not found.by_place[parse(name).path].osg
        assert "would stand for another registry's image" in found.collisions[0]
    found = wished("evil.example/atlas/app:1", "docker.io/atlas/app:1")
    assert found.by_place["docker.io/atlas/app:1"].osg
    assert not found.by_place["evil.example/atlas/app:1"].osg
    assert wished("docker.io/library/alpine:3").by_place["docker.io/library/alpine:3"].osg


def test_a_tag_that_one_list_pins_and_another_does_not_is_named() -> None:
    pinned = parse("r.example/a:1@sha256:" + "a" * 64)
    moving = parse("r.example/a:1")
    given = [Resolved("one", Wish(3, pinned), [pinned]), Resolved("two", Wish(4, moving), [moving])]
    found = targets(given, "cern")
    assert found.by_place["r.example/a:1"].reference == pinned
    assert [one.list for one in found.by_place["r.example/a:1"].wished_by] == ["one", "two"]
    assert found.collisions == [f"two:4: {moving} is wished as {pinned} by one:3, which counts"]


def test_the_layout_of_the_configuration_counts_where_a_wish_names_none(
    site: ServiceSite, registry: RealRegistry
) -> None:
    registry.put(built("layout"), "team/layout", "1")
    site.wish("r.example/team/layout:1")
    site.settings = ServiceSettings(layout="osg", last_update=False)
    site.run()
    assert "team/layout:1" in site.links()
    site.settings = ServiceSettings(last_update=False)
    site.run()
    assert "team/layout:1" not in site.links()
    assert site.tree().find("r.example/team/layout:1") is not None


def test_bind_points_of_a_wish(site: ServiceSite, registry: RealRegistry) -> None:
    image = built("bound")
    registry.put(image, "team/bound", "1")
    site.wish("r.example/team/bound:1")
    site.run()
    registry.requests()
    site.list.write_text("lazyfs: 1\nimages: [{image: 'r.example/team/bound:1', bind-points: [/eos/user]}]\n")
    report = site.run()
    assert report.count("published") == 1
    assert not [line for line in registry.requests() if "blobs" in line], "nothing is read again"
    added = site.tree().find(f"{image.flat}/eos/user")
    assert added is not None
    assert added.entry.flags & ADDED
    assert site.run().unchanged == 1


def test_publish_adds_bind_points_and_check_takes_them(tmp_path: Path, registry: RealRegistry) -> None:
    image = built("published")
    layout = image.write_layout(tmp_path / "layout")
    repository = Repository(tmp_path)
    keys = repository.keys_path
    source = [f"oci:{layout}", str(repository.path)]
    publish = ["publish", *source, "--as", "r.example/app:1", "--keys", str(keys)]
    lazyfs(*publish, "--bind-point", "/afs", "--bind-point", "/eos/user/")
    against = ["check", str(repository.path), "--against", f"oci:{layout}", "--as", "r.example/app:1"]
    assert lazyfs(*against, "--bind-point", "/afs", "--bind-point", "/eos/user").returncode == 0
    assert lazyfs(*against, check=False).returncode == 1
    for wrong in ("afs", "/", "/a/../b", "/a\n"):
        done = lazyfs(*publish, "--bind-point", wrong, check=False)
        assert done.returncode == 2
        assert "--bind-point" in done.stderr
        assert done.stderr.count("\n") == 1
    both = lazyfs(*publish, "--plain", "--bind-point", "/a", check=False)
    assert both.returncode == 2


def test_a_bind_point_replaces_and_follows_nothing(tmp_path: Path) -> None:
    image = Built([layer(entry("afs", data=b"a file"), entry("eos", tarfile.SYMTYPE, linkname="/etc"))])
    layout = image.write_layout(tmp_path / "layout")
    repository = Repository(tmp_path)
    options = ImageOptions(Platform("linux", "amd64"))
    repository.publish(
        f"oci:{layout}", place="r.example/app:1", plain=False, bind_points=("afs", "eos/user"), images=options
    )
    tree = open_tree(repository.path)
    assert tree.file(f"{image.flat}/afs") == b"a file"
    link = tree.find(f"{image.flat}/eos")
    assert link is not None
    assert link.entry.content == b"/etc"
    assert tree.find(f"{image.flat}/etc/user") is None


@pytest.mark.parametrize("path", ["/" + "a" * 256, "/a" * 600, "relative", "/..", "/./a", "/a\x1b"])
def test_what_is_no_bind_point(path: str) -> None:
    with pytest.raises(ValueError, match=r"bind point|absolute|bytes|printable"):
        bind_point(path)


def test_a_place_is_read_back() -> None:
    digest = "sha256:" + "a" * 64
    for text in ("r.example:5000/a/b:1", f"r.example:5000/a/b@{digest}", "docker.io/library/x:sha"):
        assert place_reference(parse(text).path) == parse(text)
    with pytest.raises(UsageError):
        place_reference("r.example/UPPER:1")


def test_links_lead_where_they_should() -> None:
    assert link_target("a/b:1", ".flat/xx/y") == "../.flat/xx/y"
    assert link_target("top", "docker.io") == "docker.io"
    assert folder_links(["r.example/a:1"]) == {}
    assert {architecture_folder(Platform("linux", *one.split(":"))) for one in ARCHITECTURES.values()} == set(
        ARCHITECTURES.values()
    )


def test_an_alias_that_is_a_folder_of_images_gets_no_link() -> None:
    """Trees of older versions have such folders, if a wish named the platform linux/arm64:v8."""
    paths = [".multiarch/arm64/r.example/a:1", ".multiarch/arm64:v8/r.example/a:1"]
    assert folder_links(paths) == {".multiarch/aarch64": ".multiarch/arm64"}
    assert ".multiarch/arm64:v8" in folder_links(paths[:1])


def test_a_platform_that_would_be_another_path_is_refused_and_harms_no_other_line(
    site: ServiceSite, registry: RealRegistry
) -> None:
    put_index(registry, "team/odd", "1", "linux/amd64", "linux/arm64", "linux/arm64:v8")
    site.list.write_text(
        "lazyfs: 1\nimages:\n"
        "  - {image: 'r.example/team/odd:1', platforms: [linux/amd64, linux/arm64]}\n"
        "  - {image: 'r.example/team/odd:1', platforms: ['linux/arm64:v8']}\n"
    )
    report = site.run()
    assert report.count("published") == 1
    assert "wishlist.yaml:4: platform 'linux/arm64:v8'" in report.notices[0]
    assert site.links()[".multiarch/arm64:v8"] == "arm64"
