"""References, platforms, and where images hang."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.errors import FormatError, UsageError
from lazyfs.core.oci import manifest
from lazyfs.core.oci.manifest import Descriptor, Index, Platform
from lazyfs.core.oci.platform import choose, parse_platform
from lazyfs.core.oci.reference import HUB, parse
from lazyfs.images.sources.default_name import default_place

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "path", "wanted"),
    [
        ("alpine", f"{HUB}/library/alpine:latest", "latest"),
        ("alpine:3", f"{HUB}/library/alpine:3", "3"),
        ("atlas/analysis:21.2", f"{HUB}/atlas/analysis:21.2", "21.2"),
        ("r.example/a/b/c:v", "r.example/a/b/c:v", "v"),
        ("r.example:5000/a", "r.example:5000/a:latest", "latest"),
        ("localhost/a:1", "localhost/a:1", "1"),
        (f"r.example/a@{DIGEST}", f"r.example/a:{DIGEST}", DIGEST),
        (f"r.example/a:1@{DIGEST}", "r.example/a:1", DIGEST),
        ("[::1]:5000/a:1", "[::1]:5000/a:1", "1"),
    ],
)
def test_references(text: str, path: str, wanted: str) -> None:
    reference = parse(text)
    assert (reference.path, reference.wanted) == (path, wanted)
    assert parse(str(reference)) == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":1",
        "Upper/case",
        "a:",
        "a:-x",
        "r.example/",
        "r.example/../x",
        "a@sha256:12",
        "a b",
        "r.example//x",
        "-/x",
    ],
)
def test_bad_references_are_named(text: str) -> None:
    with pytest.raises(UsageError, match="image "):
        parse(text)


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("x86_64", Platform("linux", "amd64")),
        ("aarch64", Platform("linux", "arm64", "v8")),
        ("linux/arm/v7", Platform("linux", "arm", "v7")),
        ("linux/x86_64", Platform("linux", "amd64")),
        ("windows/amd64", Platform("windows", "amd64")),
    ],
)
def test_platforms(text: str, platform: Platform) -> None:
    assert parse_platform(text) == platform


def test_the_variant_of_an_index_that_fits_best() -> None:
    def listed(*platforms: Platform | None) -> Index:
        return Index(tuple(Descriptor(DIGEST, n, platform=item) for n, item in enumerate(platforms)))

    arm = Platform("linux", "arm64")
    eight = Platform("linux", "arm64", "v8")
    amd = Platform("linux", "amd64")
    assert choose(listed(amd, arm, eight), eight, "x").size == 2
    assert choose(listed(amd, arm), eight, "x").size == 1
    assert choose(listed(amd, eight), arm, "x").size == 1
    assert choose(listed(None), arm, "x").size == 0
    with pytest.raises(FormatError, match="there is linux/amd64"):
        choose(listed(amd), arm, "x")


@pytest.mark.parametrize(
    ("name", "directory", "place"),
    [
        ("v1", "/x/My Layout", "localhost/my-layout:v1"),
        ("r.example/a:2", "/x", "r.example/a:2"),
        (None, "/x", None),
        ("not a tag", "/x", None),
    ],
)
def test_default_places(name: str | None, directory: str, place: str | None) -> None:
    assert default_place(name, directory) == place


@pytest.mark.parametrize(
    "text", [b"[" * 100_000, b'{"annotations":' + b"[" * 100_000, b'{"x":' * 50_000, b"\xff"]
)
def test_bottomless_json_is_a_format_error(text: bytes) -> None:
    with pytest.raises(FormatError, match="name: "):
        manifest.parse(text, "name")
    with pytest.raises(FormatError, match="name: "):
        manifest.parse_config(text, "name")
    with pytest.raises(FormatError, match="name: "):
        manifest.parse_archive(text, "name")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = ["schemaVersion", "mediaType", "config", "layers", "manifests", "fsLayers", "size", "digest", "urls",
         "rootfs", "diff_ids", "created", "architecture", "Env", "Layers", "Config", "RepoTags"]  # fmt: skip


@given(st.dictionaries(st.sampled_from(NAMES), json_values) | json_values)
def test_any_json(value: object) -> None:
    data = json.dumps(value).encode()
    for read in (manifest.parse, manifest.parse_config, manifest.parse_archive):
        try:
            found = read(data, "name")
        except FormatError:
            continue
        assert found is not None
        if isinstance(found, manifest.Config):
            assert abs(found.created_ns) < 2**63 * 100
