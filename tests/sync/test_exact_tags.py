"""Exact tags against real registries: the blobs that are read, the images that are published, and the cost of
an unchanged tag."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from lazyfs.core.digest import parse_hex
from lazyfs.core.tree_paths import layer_path
from lazyfs.sync.settings import RegistrySettings
from tests.support.oci_images import Built, entry, layer
from tests.support.registry import RealRegistry, real_registry
from tests.support.service import ServiceSite, built, config_of, events_of

BASE = layer(*[entry(f"base{number}", data=b"%d" % number * 2000) for number in range(20)])


@pytest.fixture(scope="module")
def registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RealRegistry, RealRegistry]]:
    directory = tmp_path_factory.mktemp("registries")
    with (
        real_registry(directory / "one", accounts_needed=False) as one,
        real_registry(directory / "two", accounts_needed=False) as two,
    ):
        yield one, two


@pytest.fixture
def site(tmp_path: Path, registries: tuple[RealRegistry, RealRegistry]) -> ServiceSite:
    one, two = registries
    site = ServiceSite(tmp_path / "site", {"docker.io": one.host, "r.example": two.host})
    for registry in registries:
        registry.requests()
    return site


def test_a_new_tag_is_read_once_and_an_unchanged_one_costs_one_head(
    site: ServiceSite, registries: tuple[RealRegistry, RealRegistry]
) -> None:
    hub, other = registries
    first, second = built("a", base=BASE), built("b", base=BASE)
    hub.put(first, "library/one", "1")
    other.put(second, "team/two", "2")
    hub.requests(), other.requests()
    site.wish("https://registry.hub.docker.com/library/one:1", "https://r.example/team/two:2")

    report = site.run()

    assert report.exit_code == 0
    assert events_of(report, "published") == ["docker.io/library/one:1", "r.example/team/two:2"]
    assert site.images() == {
        "docker.io/library/one:1": config_of(first),
        "r.example/team/two:2": config_of(second),
    }
    asked = hub.requests() + other.requests()
    base = first.layer_descriptors[0]["digest"]
    assert sum(base in line for line in asked) == 1, "the shared layer is read once, from either registry"
    assert len([line for line in asked if "HEAD" in line]) == 2
    assert len(asked) == len(set(asked))
    expected = [
        "HEAD /v2/library/one/manifests/1 200",
        f"GET /v2/library/one/manifests/{first.manifest['digest']} 200",
        f"GET /v2/library/one/blobs/{first.config['digest']} 200",
        f"GET /v2/library/one/blobs/{first.layer_descriptors[1]['digest']} 200",
    ]
    assert set(expected) <= set(asked)

    again = site.run()

    assert (again.unchanged, again.events, again.revision) == (2, [], report.revision)
    assert hub.requests() == ["HEAD /v2/library/one/manifests/1 200"]
    assert other.requests() == ["HEAD /v2/team/two/manifests/2 200"]
    assert site.repository.check().bad == 0


def test_the_questions_of_a_run_share_a_registrys_few_connections(
    site: ServiceSite, registries: tuple[RealRegistry, RealRegistry], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = built("many tags")
    for number in range(30):
        registries[1].put(image, "team/many", str(number))
    site.wish(*(f"r.example/team/many:{number}" for number in range(30)))
    site.run()
    made = []
    make = urllib3.HTTPConnectionPool._new_conn

    def counted(pool: urllib3.HTTPConnectionPool) -> object:
        made.append(pool)
        return make(pool)

    monkeypatch.setattr(urllib3.HTTPConnectionPool, "_new_conn", counted)
    assert site.run().unchanged == 30
    assert len(made) <= RegistrySettings().parallel


def test_within_max_age_nothing_is_asked(
    site: ServiceSite, registries: tuple[RealRegistry, RealRegistry]
) -> None:
    other = registries[1]
    other.put(built("aged"), "team/aged", "1")
    site.wish("r.example/team/aged:1")
    site.run()
    other.requests()
    assert site.run(max_age=5400.0).unchanged == 1
    assert other.requests() == []
    assert site.run(max_age=5400.0).unchanged == 1
    assert len(other.requests()) == 1


def test_without_its_state_a_run_finds_in_the_tree_what_is_there(
    site: ServiceSite, registries: tuple[RealRegistry, RealRegistry]
) -> None:
    other = registries[1]
    other.put(built("stateless"), "team/stateless", "1")
    site.wish("r.example/team/stateless:1")
    first = site.run()
    (site.status / "state.json").unlink()
    other.requests()
    again = site.run()
    assert (again.unchanged, again.revision) == (1, first.revision)
    assert other.requests() == ["HEAD /v2/team/stateless/manifests/1 200"]
    assert site.state().images["r.example/team/stateless:1"].paths


def test_a_tag_that_moves_takes_its_digest_path_along(
    site: ServiceSite, registries: tuple[RealRegistry, RealRegistry]
) -> None:
    other = registries[1]
    old, new = built("old", base=BASE), built("new", base=BASE)
    before = other.put(old, "team/moving", "1")
    site.wish("r.example/team/moving:1", "r.example/team/moving:same")
    other.put(old, "team/moving", "same")
    site.run()
    assert f"r.example/team/moving:{before}" in site.links()
    after = other.put(new, "team/moving", "1")
    report = site.run()
    assert events_of(report, "moved") == ["r.example/team/moving:1"]
    assert site.images()["r.example/team/moving:1"] == config_of(new)
    assert {f"r.example/team/moving:{digest}" for digest in (before, after)} <= set(site.links())
    other.put(new, "team/moving", "same")
    site.run()
    assert f"r.example/team/moving:{before}" not in site.links()
    tree = site.tree()
    assert tree.find(old.flat) is None
    shared, own = (layer_path(parse_hex(digest)) for digest in old.diff_ids)
    assert tree.find(own) is None, "no image has the layer any more"
    assert tree.find(shared) is not None
    assert site.repository.check().bad == 0


def test_tags_of_one_digest_are_read_once(
    site: ServiceSite, registries: tuple[RealRegistry, RealRegistry]
) -> None:
    other = registries[1]
    image = built("same")
    for tag in ("1", "1.0", "latest"):
        other.put(image, "team/same", tag)
    other.requests()
    site.wish(*(f"r.example/team/same:{tag}" for tag in ("1", "1.0", "latest")))
    assert site.run().count("published") == 3
    asked = other.requests()
    assert len([line for line in asked if line.startswith("HEAD")]) == 3
    assert len([line for line in asked if line.startswith("GET")]) == 3
    assert len(site.images()) == 3


def test_a_digest_wish_asks_nothing_once_it_is_there(
    site: ServiceSite, registries: tuple[RealRegistry, RealRegistry]
) -> None:
    other = registries[1]
    digest = other.put(built("pinned"), "team/pinned", "1")
    site.wish(f"r.example/team/pinned@{digest}", f"r.example/team/pinned:1@{digest}")
    assert site.run().exit_code == 0
    assert {f"r.example/team/pinned:{digest}", "r.example/team/pinned:1"} <= set(site.links())
    other.requests()
    assert site.run().unchanged == 2
    assert other.requests() == []


def test_each_image_fails_alone_and_keeps_its_last_good_version(
    site: ServiceSite, registries: tuple[RealRegistry, RealRegistry]
) -> None:
    other = registries[1]
    good = built("good")
    other.put(good, "team/good", "1")
    other.put(good, "team/broken", "1")
    site.wish("r.example/team/good:1", "r.example/team/broken:1", "r.example/team/none:1")
    first = site.run()
    assert first.exit_code == 1
    assert events_of(first, "failed") == ["r.example/team/none:1"]
    wrong = Built([layer(entry("x"))], rootfs={"type": "layers", "diff_ids": ["sha256:" + "0" * 64]})
    moved = other.put(wrong, "team/broken", "1")
    second = site.run()
    assert second.exit_code == 1
    assert events_of(second, "failed") == ["r.example/team/broken:1", "r.example/team/none:1"]
    assert site.images()["r.example/team/broken:1"] == config_of(good)
    image = site.state().images["r.example/team/broken:1"]
    assert (image.failures, image.failed_digest) == (1, moved)
    assert "diff_id" in image.error
    other.put(good, "team/broken", "1")
    third = site.run()
    assert events_of(third, "failed") == ["r.example/team/none:1"]
    assert not site.state().images["r.example/team/broken:1"].error
    assert site.repository.check().bad == 0


def test_an_image_that_failed_waits_longer_each_time_until_its_tag_moves(
    site: ServiceSite, registries: tuple[RealRegistry, RealRegistry]
) -> None:
    other = registries[1]
    wrong = Built([layer(entry("w"))], rootfs={"type": "layers", "diff_ids": ["sha256:" + "1" * 64]})
    other.put(wrong, "team/waiting", "1")
    site.wish("r.example/team/waiting:1")
    outcomes = [site.run().events[0].event for _ in range(8)]
    # An hour lies between runs; the waits are 15, 30, 60, 120, 240 minutes.
    assert outcomes == ["failed", "failed", "failed", "failed", "waiting", "failed", "waiting", "waiting"]
    good = built("healed")
    other.put(good, "team/waiting", "1")
    assert site.run().exit_code == 0
    assert site.images() == {"r.example/team/waiting:1": config_of(good)}


def test_a_dry_run_asks_with_head_only_and_changes_nothing(
    site: ServiceSite, registries: tuple[RealRegistry, RealRegistry]
) -> None:
    other = registries[1]
    other.put(built("dry"), "team/dry", "1")
    other.requests()
    site.wish("r.example/team/dry:1", "r.example/team/dry:2")
    before = site.repository.files()
    report = site.run(dry_run=True)
    assert events_of(report, "published") == ["r.example/team/dry:1"]
    assert events_of(report, "failed") == ["r.example/team/dry:2"]
    assert site.repository.files() == before
    assert not (site.status / "state.json").exists()
    assert {line.partition(" ")[0] for line in other.requests() if line.endswith(" 200")} == {"HEAD"}


def test_a_private_image_is_published_only_where_the_configuration_says_so(tmp_path: Path) -> None:
    with real_registry(tmp_path / "private") as private:
        private.put(built("secret"), "team/secret", "1")
        site = ServiceSite(tmp_path / "site", {})
        password = tmp_path / "password"
        password.write_text(private.password)
        known = RegistrySettings(
            address=private.host, plain_http=True, username="reader", password_file=str(password)
        )
        site.registries = {"private.example": known}
        site.wish("private.example/team/secret:1")
        refused = site.run()
        assert refused.exit_code == 2
        assert "publish-private in the service's configuration" in refused.events[0].reason
        assert site.images() == {}
        site.registries = {
            "private.example": RegistrySettings(
                address=private.host,
                plain_http=True,
                username="reader",
                password_file=str(password),
                publish_private=True,
            )
        }
        assert site.run().exit_code == 0
        assert list(site.images()) == ["private.example/team/secret:1"]
        assert site.state().images["private.example/team/secret:1"].private
