"""Quotas of owners. Images over the quota are not published, or are removed; those listed first stay."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.errors import UsageError
from lazyfs.core.webhooks.pushes import Push
from lazyfs.sync.quotas import Quota, QuotaUse, over_quota, quota_use
from lazyfs.sync.settings import read_settings
from tests.support.fake_registry import FakeRegistry
from tests.support.service import ServiceSite, built, events_of

OWNERS = st.lists(st.sampled_from(["", "a", "b", "c"]), min_size=1, max_size=3)
QUOTAS = st.builds(Quota, st.none() | st.integers(0, 4), st.none() | st.integers(0, 100))


@given(
    st.lists(st.tuples(OWNERS, st.integers(0, 60)), max_size=12),
    st.dictionaries(st.sampled_from(["a", "b", "*"]), QUOTAS),
)
def test_nobody_has_more_than_allowed_and_what_is_refused_has_no_room(
    given_images: list[tuple[list[str], int]], quotas: dict[str, Quota]
) -> None:
    images = [(f"r/i:{number}", owners) for number, (owners, _) in enumerate(given_images)]
    sizes = {f"r/i:{number}": size for number, (_, size) in enumerate(given_images)}
    refused = over_quota(images, sizes, quotas)
    assert refused == over_quota(images, sizes, quotas)
    for owner in ("a", "b", "c"):
        quota = quotas.get(owner) or quotas.get("*") or Quota()
        only = [place for place, owners in images if set(owners) == {owner} and place not in refused]
        assert quota.images is None or len(only) <= quota.images
        assert quota.size is None or sum(sizes[place] for place in only) <= quota.size
    for place, owners in images:
        if "" in owners or not any(quotas.get(one) or quotas.get("*") for one in owners):
            assert place not in refused
    for at in range(len(images)):
        assert over_quota(images[:at], sizes, quotas).items() <= refused.items(), "later ones push none out"


@given(
    st.lists(st.tuples(OWNERS, st.integers(0, 60)), max_size=12),
    st.dictionaries(st.sampled_from(["a", "b", "*"]), QUOTAS),
)
def test_the_use_that_is_shown_is_within_the_quota_and_counts_every_image_with_room(
    given_images: list[tuple[list[str], int]], quotas: dict[str, Quota]
) -> None:
    images = [(f"r/i:{number}", owners) for number, (owners, _) in enumerate(given_images)]
    sizes = {f"r/i:{number}": size for number, (_, size) in enumerate(given_images)}
    refused = over_quota(images, sizes, quotas)
    shown = quota_use(images, sizes, quotas)
    named = {owner for _, owners in images for owner in owners if owner}
    assert set(shown) == {one for one in quotas if one != "*"} | (named if "*" in quotas else set())
    for owner, use in shown.items():
        assert use.most_images is None or use.images <= use.most_images
        assert use.most_size is None or use.size <= use.most_size
        only = [place for place, owners in images if set(owners) == {owner} and place not in refused]
        assert len(only) <= use.images <= sum(owner in owners for _, owners in images)
        assert sum(sizes[place] for place in only) <= use.size


@pytest.fixture
def site(site: ServiceSite, registry: FakeRegistry) -> ServiceSite:
    for number in range(1, 5):
        registry.add(built(f"image{number}"), str(number))
    return site


def wish(site: ServiceSite, *tags: int, owner: str = "atlas") -> None:
    lines = "".join(f"  - {{image: 'r.example/team/app:{tag}', owner: {owner}}}\n" for tag in tags)
    site.list.write_text(f"lazyfs: 1\nimages:\n{lines}")


def tags(site: ServiceSite) -> list[int]:
    return sorted(int(place.rpartition(":")[2]) for place in site.images())


def test_images_over_the_number_are_refused_by_name_and_the_first_ones_stay(site: ServiceSite) -> None:
    wish(site, 1, 2, 3)
    report = site.run(quotas={"atlas": Quota(images=2)})
    assert tags(site) == [1, 2]
    (failed,) = [event for event in report.events if event.event == "failed"]
    assert failed.image == "r.example/team/app:3"
    assert failed.reason == "over the quota of atlas: 2 images, which the wishes before it take"
    assert failed.owners == ("atlas",)
    assert site.run(quotas={"*": Quota(images=3)}).exit_code == 0
    assert tags(site) == [1, 2, 3]


def test_the_state_has_the_use_of_each_quota_after_full_runs_and_pushes(
    site: ServiceSite, registry: FakeRegistry
) -> None:
    quotas = {"atlas": Quota(images=2), "cms": Quota(size=1 << 30)}
    wish(site, 1, 2, 3)
    site.run(quotas=quotas)
    sizes = {place: image.size for place, image in site.state().images.items()}
    two = sizes["r.example/team/app:1"] + sizes["r.example/team/app:2"]
    assert site.state().quotas == {"atlas": QuotaUse(2, two, 2), "cms": QuotaUse(0, 0, None, 1 << 30)}
    assert site.state().quotas["cms"].text == "0 images, 0 B of 1.0 GiB"
    registry.add(built("moved", "further"), "2")
    site.run(quotas=quotas, pushes=[Push("r.example", "team/app", "2")])
    moved = site.state().images["r.example/team/app:2"].size
    assert moved != sizes["r.example/team/app:2"]
    assert site.state().quotas["atlas"] == QuotaUse(2, sizes["r.example/team/app:1"] + moved, 2)
    site.run(quotas={"*": Quota(images=5)})
    assert site.state().quotas["atlas"].text.startswith("3 of 5 images, ")
    site.run()
    assert site.state().quotas == {}


def test_a_quota_that_shrinks_takes_images_out_within_the_bounds_of_every_removal(site: ServiceSite) -> None:
    wish(site, 1, 2, 3, 4)
    site.run()
    quotas = {"atlas": Quota(images=1)}
    assert "3 images would leave" in site.run(quotas=quotas, max_delete=2).refused
    assert tags(site) == [1, 2, 3, 4]
    report = site.run(quotas=quotas)
    assert events_of(report, "removed") == [f"r.example/team/app:{tag}" for tag in (2, 3, 4)]
    assert tags(site) == [1]
    assert site.repository.check().bad == 0
    again = site.run(quotas=quotas)
    assert (again.unchanged, again.count("removed"), again.count("failed")) == (1, 0, 3)


def test_a_size_that_is_found_when_an_image_is_read_counts(site: ServiceSite, registry: FakeRegistry) -> None:
    wish(site, 1, 2)
    site.run()
    size = site.state().images["r.example/team/app:1"].size
    assert size > 0
    wish(site, 1, 2, 3, 4)
    quotas = {"atlas": Quota(size=3 * size + size // 2)}
    site.run(quotas=quotas)  # the fourth may be read before the third, whose size is not known then
    report = site.run(quotas=quotas)
    assert tags(site) == [1, 2, 3]
    (failed,) = [event for event in report.events if event.event == "failed"]
    assert "over the quota of atlas" in failed.reason
    registry.requests.clear()
    site.run(quotas=quotas)
    assert registry.count("manifests/4") == 0, "its size is known now: it is not asked for again"
    assert tags(site) == [1, 2, 3]


def test_an_image_that_is_too_large_is_read_once_and_never_in_the_tree(
    site: ServiceSite, registry: FakeRegistry
) -> None:
    wish(site, 1)
    quotas = {"atlas": Quota(size=10)}
    report = site.run(quotas=quotas)
    (failed,) = report.events
    assert failed.reason.startswith(
        "over the quota of atlas: 10 B, of which the wishes before it take 0 B; it has"
    )
    assert site.images() == {}
    registry.requests.clear()
    assert site.run(quotas=quotas).count("failed") == 1
    assert registry.requests == []
    assert site.run().count("published") == 1


def test_who_has_room_has_the_image_for_all(site: ServiceSite) -> None:
    site.list.write_text(
        "lazyfs: 1\nimages:\n"
        "  - {image: 'r.example/team/app:1', owner: atlas}\n"
        "  - {image: 'r.example/team/app:2', owner: atlas}\n"
        "  - {image: 'r.example/team/app:2', owner: cms}\n  - r.example/team/app:3\n"
    )
    assert site.run(quotas={"atlas": Quota(images=1)}).exit_code == 0
    assert tags(site) == [1, 2, 3]


def test_a_push_gets_no_more_room_than_there_is(site: ServiceSite, registry: FakeRegistry) -> None:
    wish(site, 1, 2)
    site.run(quotas={"atlas": Quota(images=2)})
    wish(site, 3, 1, 2)
    quotas = {"atlas": Quota(images=2)}
    registry.add(built("moved"), "1")
    pushes = [Push("r.example", "team/app", tag) for tag in ("3", "1")]
    report = site.run(quotas=quotas, pushes=pushes)
    assert events_of(report, "moved") == ["r.example/team/app:1"]
    assert events_of(report, "failed") == ["r.example/team/app:3"]
    assert tags(site) == [1, 2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("images = -1", "owners.atlas: images = -1"),
        ("size = 'much'", "owners.atlas: size 'much' is no size"),
        ("number = 3", "number"),
    ],
)
def test_a_quota_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "service.toml"
    config.write_text(f"[owners.atlas]\n{text}\n")
    with pytest.raises(UsageError, match=re.escape(said)):
        read_settings(str(config))
