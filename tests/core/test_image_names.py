"""Every command applies the same rule to the names of images."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.image_names import candidates, full_name, similar
from lazyfs.core.oci.reference import HUB_HOSTS, parse

TOP = [".flat", "docker.io", "one.example", "two.example:5000"]


def flat(name: str, top: list[str] = TOP) -> list[str]:
    return [path for rank in candidates(name, top) for path in rank]


def test_a_short_name_is_docker_hubs_before_anybody_elses() -> None:
    assert candidates("debian", TOP) == [
        ["debian:latest"],
        ["debian"],
        *[[f"{host}/library/debian:latest"] for host in HUB_HOSTS],
        [
            "one.example/debian:latest",
            "one.example/library/debian:latest",
            "two.example:5000/debian:latest",
            "two.example:5000/library/debian:latest",
        ],
    ]


@pytest.mark.parametrize("registry", ["one.example", "localhost", "two.example:5000"])
def test_a_name_with_a_registry_means_that_one(registry: str) -> None:
    assert flat(f"{registry}/app") == [f"{registry}/app:latest", f"{registry}/app"]


@pytest.mark.parametrize("host", HUB_HOSTS)
@pytest.mark.parametrize("short", ["debian", "library/debian", "debian:latest", "library/debian:latest"])
def test_the_names_of_docker_hub_find_each_others_images(host: str, short: str) -> None:
    for published in HUB_HOSTS:
        assert f"{published}/library/debian:latest" in flat(f"{host}/{short}")
        assert f"{published}/library/debian:latest" in flat(short)


def test_an_image_published_by_its_digest_is_found_by_it() -> None:
    digest = "sha256:" + "ab" * 32
    assert f"docker.io/library/debian:{digest}" in flat(f"debian@{digest}")
    assert f"one.example/app:{digest}" in flat(f"one.example/app:1@{digest}")
    assert "one.example/app:1" not in flat(f"one.example/app:1@{digest}")


@pytest.mark.parametrize("name", ["", "/", "a//b", "../a", "a/./b", "a/..", "/a"])
def test_what_leads_elsewhere_is_no_name(name: str) -> None:
    assert candidates(name, TOP) == []


REFERENCES = st.from_regex(
    r"\A((docker\.io|one\.example|localhost:5000)/)?([a-z0-9]{1,4}/){0,2}[a-z0-9]{1,5}(:[a-z0-9][a-z0-9.]{0,4})?\Z"
)


@given(REFERENCES)
def test_what_publish_names_every_command_finds(name: str) -> None:
    """`publish --as NAME` puts an image at the path that the reference NAME denotes."""
    assert parse(name).path in flat(name)
    assert full_name(name) == parse(name).path


@given(st.text(), st.lists(st.text(min_size=1).filter(lambda name: "/" not in name), max_size=5))
def test_any_text_gives_paths_within_the_tree(name: str, top: list[str]) -> None:
    found = flat(name, top)
    assert len(found) == len(set(found))
    assert all(part not in ("", ".", "..") for path in found for part in path.split("/"))


TREE = {
    "": ["docker.io", "one.example", ".flat"],
    "docker.io": ["library"],
    "docker.io/library": ["debian:bookworm", "debian:sid", "alpine:3"],
    "one.example": ["team"],
    "one.example/team": ["tool:1", "tool:2", "toast:1"],
}


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("debian", ["docker.io/library/debian:bookworm", "docker.io/library/debian:sid"]),
        ("debain:sid", ["docker.io/library/debian:sid", "docker.io/library/debian:bookworm"]),
        ("one.example/taem/tool:2", ["one.example/team/tool:2"]),
        ("one.exmple/team/tool:1", ["one.example/team/tool:1"]),
        ("nothing-like-it", []),
    ],
)
def test_similar_names_are_whole_names_the_nearest_first(name: str, near: list[str]) -> None:
    assert similar(name, lambda folder: TREE.get(folder, [])) == near
