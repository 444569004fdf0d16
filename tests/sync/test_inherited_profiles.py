"""A tag that the service publishes inherits the profile of the last published tag of its repository, unless
inheritance is switched off."""

import pytest

from lazyfs.core.profile import Origin
from lazyfs.images.profiles import publish_profile
from lazyfs.images.profiles.path_lists import find_listed
from lazyfs.images.profiles.published import profile_at, profile_paths
from lazyfs.repository.diff import resolve
from lazyfs.sync.starts import StartSettings
from tests.support.fake_registry import FakeRegistry
from tests.support.repositories import NOW
from tests.support.service import ServiceSite, built

PLACE, NEXT = "r.example/team/app:1", "r.example/team/app:2"


@pytest.fixture
def site(site: ServiceSite, registry: FakeRegistry) -> ServiceSite:
    """Makes a service that has published an image, whose profile names one of its files."""
    registry.add(built("read", "changed"), "1")
    site.wish(PLACE)
    assert site.run().exit_code == 0
    touched = find_listed(site.tree(), PLACE, [b"read"]).touched
    publish_profile(site.repository.store, site.repository.keys, PLACE, {"": touched}, lambda: NOW)
    registry.add(built("read", "changed", "new"), "2")
    site.wish(PLACE, NEXT)
    return site


def test_a_new_tag_inherits_from_the_one_before(site: ServiceSite) -> None:
    assert site.run().exit_code == 0
    tree = site.tree()
    found = profile_at(resolve(tree, NEXT))
    assert found is not None
    assert found.profile.origin is Origin.INHERITED
    assert b"read" in profile_paths(tree, found)
    first = profile_at(resolve(tree, PLACE))
    assert first is not None
    assert first.profile.origin is Origin.RECORDED
    assert site.repository.check().bad == 0


def test_a_tag_that_moved_inherits_from_its_own_image(site: ServiceSite, registry: FakeRegistry) -> None:
    registry.add(built("read", "other"), "1")
    assert site.run().exit_code == 0
    found = profile_at(resolve(site.tree(), PLACE))
    assert found is not None
    assert found.profile.origin is Origin.INHERITED


def test_a_service_that_is_told_not_to_gives_new_images_none(site: ServiceSite) -> None:
    assert site.run(starts=StartSettings(None, 0, inherit=False)).exit_code == 0
    assert profile_at(resolve(site.tree(), NEXT)) is None
