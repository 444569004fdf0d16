"""References, platforms, and the places of images in the tree."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.errors import FormatError, UsageError
from lazyfs.core.oci import manifest
from lazyfs.core.oci.manifest import Descriptor, Index, Platform
from lazyfs.core.oci.platform import choose, normalized, parse_platform, runs
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
        ("docker.io/alpine", f"{HUB}/library/alpine:latest", "latest"),
        ("index.docker.io/alpine:3", f"{HUB}/library/alpine:3", "3"),
        ("registry-1.docker.io/library/alpine:3", f"{HUB}/library/alpine:3", "3"),
        ("registry.hub.docker.com/atlas/analysis:1", f"{HUB}/atlas/analysis:1", "1"),
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


@pytest.mark.parametrize("text", ["me:word@r.example/a:1", f"me:w@word@r.example/a@sha256:{'0' * 64}"])
def test_an_account_before_a_reference_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(UsageError, match=r"image 'r\.example/a.*no account is before it") as caught:
        parse(text)
    assert "word" not in str(caught.value)


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


@pytest.mark.parametrize(
    "text",
    [
        "linux/arm64:v8",
        "linux/..",
        "..",
        "linux/amd64/..",
        "linux/a b",
        "/amd64",
        "linux/arm\nv7",
        "linux/a\0",
    ],
)
def test_a_platform_that_would_be_another_path_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not os/architecture"):
        parse_platform(text)


def listed(*platforms: str | None) -> Index:
    """Returns an index of these platforms. The size field of each entry is the entry's number, so that tests
    can recognise it."""
    entries = []
    for number, text in enumerate(platforms):
        platform = None if text is None else Platform(*text.split("/"))
        entries.append(Descriptor(DIGEST, number, platform=platform))
    return Index(tuple(entries))


@pytest.mark.parametrize(
    ("wanted", "there", "chosen"),
    [
        ("amd64", ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64"], 2),
        ("amd64", ["linux/amd64/v3", "linux/amd64/v1"], 1),
        ("linux/amd64/v1", ["linux/amd64/v2", "linux/amd64"], 1),
        ("linux/amd64/v2", ["linux/amd64", "linux/amd64/v3", "linux/amd64/v2"], 2),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v4", "linux/amd64/v2"], 2),
        ("linux/amd64/v4", ["linux/arm64", "linux/amd64"], 1),
        ("aarch64", ["linux/amd64", "linux/arm64", "linux/arm64/v8"], 2),
        ("aarch64", ["linux/amd64", "linux/arm64"], 1),
        ("arm64", ["linux/arm64/v9", "linux/arm64/v8"], 1),
        ("arm64", ["linux/arm64/v8", "linux/arm64"], 1),
        ("linux/arm64/v9", ["linux/arm64", "linux/arm64/v8.4", "linux/arm64/v8.6"], 1),
        ("linux/arm64/v9.1", ["linux/arm64", "linux/arm64/v8.4", "linux/arm64/v8.6"], 2),
        ("linux/arm64/v8.2", ["linux/arm64/v8.3", "linux/arm64/v8.1", "linux/arm64"], 1),
        ("linux/arm/v7", ["linux/arm/v8", "linux/arm/v5", "linux/arm/v6", "linux/arm/v7"], 3),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], 1),
        ("linux/arm/v6", ["linux/arm/v7", "linux/arm", "linux/arm/v5"], 2),
        ("linux/arm/v5", ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"], 2),
        ("arm", ["linux/arm/v6", "linux/arm/v7"], 1),
        ("arm", ["linux/arm/v6", "linux/arm"], 1),
        ("armv8l", ["linux/arm64", "linux/arm/v7"], 1),
        ("linux/arm/7", ["linux/arm/v6", "linux/arm/v7"], 1),
        ("x86_64", ["Linux/x86_64"], 0),
        ("aarch64", ["linux/aarch64"], 0),
        ("riscv64", ["linux/riscv64"], 0),
        ("linux/riscv64/rva22u64", ["linux/riscv64", "linux/riscv64/rva22u64"], 1),
        ("amd64", [None], 0),
        ("amd64", ["linux/arm64", None], 1),
        ("amd64", ["unknown/unknown", "linux/amd64"], 1),
        ("amd64", ["/amd64"], 0),
    ],
)
def test_the_entry_of_an_index_that_fits_best(wanted: str, there: list[str | None], chosen: int) -> None:
    assert choose(listed(*there), parse_platform(wanted), "x").size == chosen


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        ("arm64", ["linux/amd64"]),
        ("amd64", ["linux/amd64/v2"]),
        ("amd64", ["windows/amd64"]),
        ("linux/arm/v5", ["linux/arm/v6"]),
        ("linux/arm64/v9", ["linux/arm64/v9.1", "linux/arm64/v8.6"]),
        ("amd64", ["linux/386"]),
        ("amd64", ["unknown/unknown"]),
        ("amd64", []),
    ],
)
def test_an_index_without_the_platform_lists_what_there_is(wanted: str, there: list[str]) -> None:
    with pytest.raises(FormatError, match=r"there is .*: choose with --platform") as caught:
        choose(listed(*there), parse_platform(wanted), "x")
    assert all(text in str(caught.value) for text in there if text != "unknown/unknown")


@given(
    st.sampled_from(["amd64", "arm64", "arm", "386"]),
    st.sampled_from(["", "v1", "v2", "v3", "v5", "v6", "v7", "v8", "v9", "7", "x"]),
    st.lists(st.tuples(st.sampled_from(["amd64", "arm64", "arm"]), st.sampled_from(["", "v2", "v7", "v8"]))),
)
def test_what_is_chosen_runs_and_nothing_that_runs_is_overlooked(
    architecture: str, variant: str, there: list[tuple[str, str]]
) -> None:
    wanted = normalized(Platform("linux", architecture, variant))
    index = listed(*(f"linux/{one}/{other}".rstrip("/") for one, other in there))
    fitting = [entry for entry in index.manifests if entry.platform and runs(entry.platform, wanted)]
    if fitting:
        assert choose(index, wanted, "x") in fitting
    else:
        with pytest.raises(FormatError):
            choose(index, wanted, "x")


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
