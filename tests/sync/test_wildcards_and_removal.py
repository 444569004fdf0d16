"""Patterns of tags against real registries. Images are removed from the tree only if the reason is
certain."""

from pathlib import Path

import pytest

from lazyfs.core.digest import parse_hex
from lazyfs.core.errors import TransportError
from lazyfs.core.tree_paths import layer_path
from lazyfs.images.registry.client import RegistryClient
from tests.support.oci_images import entry, layer
from tests.support.registry import RealRegistry
from tests.support.service import ServiceSite, built, config_of, events_of

BASE = layer(*[entry(f"base{number}", data=b"%d" % number * 500) for number in range(5)])


@pytest.fixture
def team(request: pytest.FixtureRequest) -> str:
    """Returns a repository of the test's own."""
    name: str = request.node.name
    return "team/" + name.removeprefix("test_")[:60].rstrip("_")


@pytest.fixture(scope="module")
def registry(real: RealRegistry) -> RealRegistry:
    return real


@pytest.fixture
def site(tmp_path: Path, registry: RealRegistry) -> ServiceSite:
    registry.requests()
    return ServiceSite(tmp_path / "site", {"r.example": registry.host, "gone.example": "127.0.0.1:9"})


def tags_of(site: ServiceSite) -> list[str]:
    return sorted(place.rpartition(":")[2] for place in site.images())


def test_a_pattern_follows_the_tags_of_its_repository(
    site: ServiceSite, registry: RealRegistry, team: str
) -> None:
    images = {tag: built(tag, base=BASE) for tag in ("1.0", "1.1", "2.0", "1.2", "x1.0")}
    digests = {tag: registry.put(images[tag], team, tag) for tag in ("1.0", "1.1", "2.0", "x1.0")}
    registry.requests()
    site.wish(f"r.example/{team}:1.*")
    assert site.run().exit_code == 0
    assert tags_of(site) == ["1.0", "1.1"]
    asked = registry.requests()
    assert sum("/tags/list" in line for line in asked) == 1
    assert sum("manifests" in line and "HEAD" in line for line in asked) == 2

    registry.put(images["1.2"], team, "1.2")
    registry.delete(team, digests["1.0"])
    report = site.run()
    assert events_of(report, "published") == [f"r.example/{team}:1.2"]
    assert events_of(report, "removed") == [f"r.example/{team}:1.0"]
    assert "has no manifests/1.0" in report.events[-1].reason
    assert tags_of(site) == ["1.1", "1.2"]
    assert not [path for path in site.links() if digests["1.0"] in path]
    assert site.tree().find(f".metadata/r.example/{team}:1.0") is None
    assert site.tree().find(images["1.0"].flat) is None
    own, base = (layer_path(parse_hex(digest)) for digest in reversed(images["1.0"].diff_ids))
    assert site.tree().find(own) is None
    assert site.tree().find(base) is not None, "another image has it"
    assert site.repository.check().bad == 0


def test_a_repository_that_two_lists_wish_is_listed_once(
    site: ServiceSite, registry: RealRegistry, team: str
) -> None:
    image = built("listed")
    for number in range(25):
        registry.put(image, team, f"t{number}")
    registry.requests()
    site.list.write_text(f"r.example:\n  images-by-tag-regex:\n    {team}: 't[0-4]$'\n")
    second = site.directory / "second.yaml"
    second.write_text(f"version: 1\ninput: ['r.example/{team}:t2*']\n")
    assert site.run([site.list, second]).exit_code == 0
    assert sum("/tags/list" in line for line in registry.requests()) == 1
    assert tags_of(site) == ["t0", "t1", "t2", "t20", "t21", "t22", "t23", "t24", "t3", "t4"]


def test_what_no_list_wishes_any_more_leaves(site: ServiceSite, registry: RealRegistry, team: str) -> None:
    image = built("same", base=BASE)
    digest = registry.put(image, team, "1")
    registry.put(image, team, "2")
    site.wish(f"r.example/{team}:1", f"r.example/{team}:2")
    site.run()
    site.wish(f"r.example/{team}:2")
    report = site.run()
    assert events_of(report, "removed") == [f"r.example/{team}:1"]
    assert report.exit_code == 0
    assert tags_of(site) == ["2"]
    assert f"r.example/{team}:{digest}" in site.links(), "the other tag has the digest too"
    assert f"r.example/{team}:1" not in site.state().images


def test_a_wish_of_another_list_keeps_an_image(site: ServiceSite, registry: RealRegistry, team: str) -> None:
    registry.put(built("shared"), team, "1")
    registry.put(built("other"), team, "2")
    second = site.directory / "second.txt"
    second.write_text(f"r.example/{team}:1\n")
    site.wish(f"r.example/{team}:1", f"r.example/{team}:2")
    site.run([site.list, second])
    site.wish(f"r.example/{team}:2")
    assert site.run([site.list, second]).count("removed") == 0
    second.write_text(f"r.example/{team}:2\n")
    assert events_of(site.run([site.list, second]), "removed") == [f"r.example/{team}:1"]


BROKEN = {
    "empty": "",
    "comment": "# moved to another place\n",
    "sign-in": "<!DOCTYPE html><html><body>Sign in</body></html>",
    "no wishes": "version: 1\ninput: []\n",
    "not YAML": "version: 1\ninput:\n  - 'r.example/x:1\n :\n",
    "a JSON error": '{"message": "404 Project Not Found"}',
    "bytes": "\x00\x01\x02",
}


@pytest.mark.parametrize("content", [*BROKEN, "no file"])
def test_a_list_that_is_none_removes_nothing(content: str, site: ServiceSite, registry: RealRegistry) -> None:
    image = built("stays")
    registry.put(image, "team/stays", "1")
    site.wish("r.example/team/stays:1")
    site.run()
    if content == "no file":
        site.list.unlink()
    else:
        site.list.write_text(BROKEN[content])
    moved = built("moved on", content)
    registry.put(moved, "team/stays", "1")
    report = site.run()
    assert report.exit_code == 1
    assert report.count("removed") == 0
    assert any("last good content stays in force" in line for line in report.notices)
    assert site.images() == {"r.example/team/stays:1": config_of(moved)}, "and its wishes are still granted"


def test_a_list_with_a_bad_line_removes_nothing(site: ServiceSite, registry: RealRegistry, team: str) -> None:
    for tag in ("1", "2"):
        registry.put(built(tag), team, tag)
    site.wish(f"r.example/{team}:1", f"r.example/{team}:2")
    site.run()
    site.wish(f"r.example/{team}:1", f"r.example/{team}")
    report = site.run()
    assert report.exit_code == 1
    assert tags_of(site) == ["1", "2"]
    site.wish(f"r.example/{team}:1")
    assert events_of(site.run(), "removed") == [f"r.example/{team}:2"]


def test_a_list_that_is_not_given_removes_nothing_until_it_is_forgotten(
    site: ServiceSite, registry: RealRegistry, team: str
) -> None:
    for tag in ("1", "2"):
        registry.put(built(tag), team, tag)
    second = site.directory / "second.txt"
    second.write_text(f"r.example/{team}:2\n")
    site.wish(f"r.example/{team}:1")
    site.run([site.list, second])
    assert site.run().count("removed") == 0
    report = site.run(forgotten=(str(second),))
    assert events_of(report, "removed") == [f"r.example/{team}:2"]
    assert str(second) not in site.state().lists


def test_more_than_a_run_may_remove_stays(site: ServiceSite, registry: RealRegistry, team: str) -> None:
    image = built("many")
    for number in range(5):
        registry.put(image, team, str(number))
    site.wish(*(f"r.example/{team}:{number}" for number in range(5)))
    site.run()
    site.wish(f"r.example/{team}:0")
    report = site.run(accept_shorter=[site.list], max_delete=3)
    assert report.exit_code == 1
    assert "4 images would leave the tree, over 3" in report.refused
    assert len(tags_of(site)) == 5
    assert site.run(max_delete=4).count("removed") == 4
    assert tags_of(site) == ["0"]


@pytest.mark.parametrize("silence", ["its registry is down", "the list is broken", "the list is not given"])
def test_a_wish_that_cannot_be_asked_is_not_forgotten_for_another_one(
    silence: str, site: ServiceSite, registry: RealRegistry
) -> None:
    team = "team/not_forgotten"
    for tag in ("1", "2"):
        registry.put(built(tag), team, tag)
    second = site.directory / "second.yaml"
    good = f"version: 1\ninput: ['r.example/{team}:1*']\n"
    second.write_text(good)
    site.wish(f"r.example/{team}:1", f"r.example/{team}:2")
    site.run([site.list, second])
    lists = [site.list] if silence == "the list is not given" else [site.list, second]
    if silence == "the list is broken":
        second.write_text(f"version: 1\ninput: ['r.example/{team}:2', 'r.example/{team}']\n")
    with pytest.MonkeyPatch.context() as patch:
        if silence == "its registry is down":
            patch.setattr(RegistryClient, "tags", _down)
        site.run(lists)
        site.wish(f"r.example/{team}:2")
        assert site.run(lists).count("removed") == 0
    second.write_text(good.replace(":1*", ":2"))
    assert events_of(site.run([site.list, second]), "removed") == [f"r.example/{team}:1"]


def _down(_: RegistryClient) -> list[str]:
    raise TransportError("the registry answers 503")


def test_time_of_grace(site: ServiceSite, registry: RealRegistry, team: str) -> None:
    for tag in ("1", "2"):
        registry.put(built(tag), team, tag)
    site.settings = site.settings.__class__(last_update=False, grace_hours=2.5)
    both = [f"r.example/{team}:1", f"r.example/{team}:2"]
    site.wish(*both)
    site.run()
    site.wish(both[0])
    assert [site.run().count("removed") for _ in range(4)] == [0, 0, 0, 1]
    site.wish(*both)
    site.run()
    site.wish(both[0])
    site.run()
    site.wish(*both)
    site.run()
    site.wish(both[0])
    assert [site.run().count("removed") for _ in range(3)] == [0, 0, 0], "the time begins anew"


def test_a_tag_that_its_registry_does_not_know_leaves_and_its_wish_is_reported(
    site: ServiceSite, registry: RealRegistry, team: str
) -> None:
    digest = registry.put(built("gone"), team, "1")
    registry.put(built("stays"), team, "2")
    site.wish(f"r.example/{team}:1", f"r.example/{team}:2")
    site.run()
    registry.delete(team, digest)
    report = site.run()
    assert events_of(report, "removed") == events_of(report, "failed") == [f"r.example/{team}:1"]
    assert tags_of(site) == ["2"]
    assert site.state().images[f"r.example/{team}:1"].error
    again = site.run()
    assert (again.count("failed"), again.count("removed")) == (1, 0)
    assert not again.events[0].new


def test_a_registry_that_is_down_removes_nothing_and_is_soon_left_alone(
    site: ServiceSite, registry: RealRegistry, team: str
) -> None:
    for number in range(8):
        registry.put(built("x"), team, str(number))
    wishes = [f"gone.example/{team}:{number}" for number in range(8)]
    site.registries["gone.example"] = site.registries["r.example"]
    site.wish(f"r.example/{team}:1", f"gone.example/{team}:*")
    site.run()
    assert len(site.images()) == 9
    down = ServiceSite(site.directory / "x", {"gone.example": "127.0.0.1:9"}).registries["gone.example"]
    site.registries["gone.example"] = down
    site.wish(f"r.example/{team}:1", f"gone.example/{team}:*", *wishes)
    report = site.run()
    assert report.exit_code == 1
    assert len(site.images()) == 9
    assert report.unchanged == 1
    assert any("not asked again in this run" in event.reason for event in report.events)


def test_keep_last_and_exclusions(site: ServiceSite, registry: RealRegistry, team: str) -> None:
    for tag in ("1.9", "1.10", "1.2", "2.0-rc1", "latest", "1.10-debug"):
        registry.put(built(tag), team, tag)
    site.list.write_text(
        f"lazyfs: 1\nimages:\n  - image: r.example/{team}:*\n    keep-last: 2\n    exclude: ['*-debug']\n"
        f"  - '!r.example/{team}:*-rc*'\n"
    )
    site.run()
    assert tags_of(site) == ["1.10", "1.9"]
    registry.put(built("1.11"), team, "1.11")
    report = site.run()
    assert events_of(report, "removed") == [f"r.example/{team}:1.9"]
    assert tags_of(site) == ["1.10", "1.11"]


def test_dates_are_asked_for_once(site: ServiceSite, registry: RealRegistry, team: str) -> None:
    for tag, created in (("a", "2025-12-30T00:00:00Z"), ("b", "2025-11-01T00:00:00Z"), ("c", "")):
        registry.put(built(tag, created=created), team, tag)
    site.list.write_text(f"lazyfs: 1\nimages: [{{image: 'r.example/{team}:*', newer-than: 1w}}]\n")
    site.run()
    assert tags_of(site) == ["a", "c"]
    registry.requests()
    site.run()
    asked = registry.requests()
    assert len([line for line in asked if "manifests" in line]) == 3
    assert not [line for line in asked if "blobs" in line]


def test_a_tag_that_only_the_listing_lacks_stays(
    site: ServiceSite, registry: RealRegistry, team: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tag in ("1", "2"):
        registry.put(built(tag), team, tag)
    site.wish(f"r.example/{team}:*")
    site.run()
    monkeypatch.setattr(RegistryClient, "tags", lambda _self: ["2"])
    assert site.run().count("removed") == 0
    assert tags_of(site) == ["1", "2"]
