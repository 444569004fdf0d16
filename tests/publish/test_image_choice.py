"""The choice of one image of a layout or archive, by name, number and platform. The choice is the same as
skopeo's."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lazyfs.core.errors import LazyfsError, UsageError
from lazyfs.core.oci.manifest import Platform
from lazyfs.core.oci.platform import parse_platform
from lazyfs.images.observer import PublishObserver
from lazyfs.images.sources.open import ImageOptions, open_image
from tests.support.fake_registry import fake_registry
from tests.support.oci_images import Built, entry, layer
from tests.support.repositories import Repository

REF, CONTAINERD = "org.opencontainers.image.ref.name", "io.containerd.image.name"
AMD64 = ImageOptions(Platform("linux", "amd64"))


def image(name: str, platform: str = "linux/amd64") -> Built:
    """Builds an image with one file for a platform."""
    system, architecture, *variant = platform.split("/")
    more: dict[str, Any] = {"variant": variant[0]} if variant else {}
    return Built([layer(entry(name))], os=system, architecture=architecture, **more)


def listed(built: Built, *, platform: str | None = None, **annotations: str) -> dict[str, Any]:
    """Returns an entry of index.json. Annotations are given by the short names `ref` and `containerd`."""
    names = {"ref": REF, "containerd": CONTAINERD}
    found: dict[str, Any] = {**built.manifest}
    if annotations:
        found["annotations"] = {names[key]: value for key, value in annotations.items()}
    if platform:
        system, architecture, *variant = platform.split("/")
        found["platform"] = {"os": system, "architecture": architecture}
        if variant:
            found["platform"]["variant"] = variant[0]
    return found


def layout(directory: Path, images: list[Built], entries: list[dict[str, Any]]) -> Path:
    for built in images:
        built.write_layout(directory)
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    return directory


def chosen(source: str, platform: str = "linux/amd64", *, asked: bool = True) -> str:
    """Returns the digest of the config of the chosen image."""
    options = replace(AMD64, platform=parse_platform(platform), platform_asked=asked)
    with open_image(source, options) as found:
        return f"sha256:{found.config_digest.hex()}"


def by_skopeo(source: str, platform: str, directory: Path) -> str | None:
    """Returns the digest of the config of the image that skopeo chooses; None if skopeo finds none."""
    system, architecture, *variant = platform.split("/")
    override = [f"--override-os={system}", f"--override-arch={architecture}"]
    override += [f"--override-variant={variant[0]}"] if variant else []
    done = subprocess.run(
        ["skopeo", *override, "copy", "--insecure-policy", "-q", source, f"dir:{directory}"],
        check=False,
        capture_output=True,
    )
    if done.returncode:
        return None
    digest: str = json.loads((directory / "manifest.json").read_text())["config"]["digest"]
    return digest


ONE, TWO, THREE = image("one"), image("two"), image("three")


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """Makes three images named as by docker save, by skopeo, and in an example of the specification."""
    entries = [
        listed(ONE, ref="latest", containerd="docker.io/library/one:latest"),
        listed(TWO, ref="latest", containerd="docker.io/library/two:latest"),
        listed(THREE, ref="r.example:5000/team/app:1"),
    ]
    return layout(tmp_path / "several", [ONE, TWO, THREE], entries)


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (":r.example:5000/team/app:1", THREE),
        (":1", THREE),
        (":docker.io/library/two:latest", TWO),
        (":two", TWO),
        (":one:latest", ONE),
        (":@0", ONE),
        (":@1", TWO),
        (f"@{TWO.manifest['digest']}", TWO),
        (f":@{TWO.manifest['digest']}", TWO),
    ],
)
def test_each_image_of_a_layout_can_be_reached(which: str, expected: Built, several: Path) -> None:
    assert chosen(f"oci:{several}{which}") == expected.config["digest"]


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("", r"a name is needed .* has: .*library/one:latest.* \(or :@N, N from 0 to 2\)"),
        (":latest", "several images with name latest"),
        (":none", "no image with name none"),
        (":@3", "has 3 images, counted from 0"),
        (":@x", "after @ comes the number"),
        ("@sha256:" + "0" * 64, "no manifest sha256:0000.*No such file"),
        ("@sha256:../../x", "is not 64 lower-case hex"),
    ],
)
def test_names_that_mean_no_image_of_a_layout(which: str, message: str, several: Path) -> None:
    with pytest.raises(UsageError, match=message):
        chosen(f"oci:{several}{which}")


@pytest.mark.parametrize("what", ["index.json", "manifest", "config", "layer"])
def test_a_pipe_in_a_layout_is_not_waited_for(what: str, tmp_path: Path) -> None:
    directory = ONE.write_layout(tmp_path / "l")
    digests = {
        "manifest": ONE.manifest["digest"],
        "config": ONE.config["digest"],
        "layer": ONE.layer_descriptors[0]["digest"],
    }
    path = directory / "blobs" / digests[what].replace(":", "/") if what in digests else directory / what
    path.unlink()
    os.mkfifo(path)
    message = "no regular file" if what != "index.json" else r"not an OCI image layout"
    with pytest.raises(UsageError, match=message):
        Repository(tmp_path).publish(f"oci:{directory}")


def test_names_of_strangers_do_not_write_to_the_terminal(tmp_path: Path) -> None:
    escape = "\x1b]0;title\x07"
    directory = layout(tmp_path / "l", [ONE, TWO], [listed(ONE, ref=escape), listed(TWO, ref="b")])
    index = json.dumps({"schemaVersion": 2, "manifests": [listed(ONE, platform=f"linux/{escape}")]}).encode()
    holder = Built([])
    descriptor = holder.blob(index, "application/vnd.oci.image.index.v1+json")
    nested = layout(tmp_path / "n", [ONE, holder], [descriptor])
    archive = tmp_path / "a.tar"
    document = [{"Config": f"{escape}.json", "RepoTags": [escape], "Layers": []}]
    archive.write_bytes(layer(entry("manifest.json", data=json.dumps(document).encode())))
    for source in (
        f"oci:{directory}:x",
        f"oci:{nested}",
        f"docker-archive:{archive}",
        f"docker-archive:{archive}:x",
    ):
        with pytest.raises(LazyfsError) as caught:
            chosen(source)
        assert str(caught.value).isprintable(), source


def test_a_layouts_place_is_the_full_name_where_there_is_one(several: Path) -> None:
    for which, place in ((":@1", "docker.io/library/two:latest"), (":1", "r.example:5000/team/app:1")):
        with open_image(f"oci:{several}{which}", AMD64) as found:
            assert found.place == place


@pytest.mark.parametrize("name", ["with:colon", "a:b:c", "sub/dir:1/x"])
def test_directories_and_files_with_colons(name: str, tmp_path: Path) -> None:
    directory = tmp_path / name
    directory.parent.mkdir(parents=True, exist_ok=True)
    layout(directory, [ONE, TWO], [listed(ONE, ref="x:1"), listed(TWO, ref="y:1")])
    assert chosen(f"oci:{directory}:y:1") == TWO.config["digest"]
    archive = ONE.write_archive(tmp_path / "an:archive.tar", [layer(entry("one"))], ["r.example/app:1"])
    assert chosen(f"docker-archive:{archive}:r.example/app:1") == ONE.config["digest"]
    assert chosen(f"docker-archive:{archive}") == ONE.config["digest"]


def test_skopeo_cuts_a_name_at_the_same_colon(tmp_path: Path) -> None:
    directory = layout(tmp_path / "l", [ONE, TWO], [listed(ONE, ref="x.example:1/a:1"), listed(TWO, ref="b")])
    for name, expected in (("x.example:1/a:1", ONE), ("b", TWO)):
        source = f"oci:{directory}:{name}"
        assert (
            by_skopeo(source, "linux/amd64", tmp_path / "out") == chosen(source) == expected.config["digest"]
        )


# Archives


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Makes three images in one archive, the third without a tag."""
    files, manifest = [], []
    tags = (["docker.io/library/one:latest", "busybox:1"], ["r.example:5000/x/two:2"], None)
    for number, (built, names) in enumerate(zip((ONE, TWO, THREE), tags, strict=True)):
        files.append(entry(f"./{number}.json", data=built.blobs[built.config["digest"]]))
        files.append(entry(f"./{number}/layer.tar", data=layer(entry(("one", "two", "three")[number]))))
        layers = [f"{number}/layer.tar" if number else "./0/layer.tar"]
        manifest.append({"Config": f"{number}.json", "RepoTags": names, "Layers": layers})
    files.append(entry("./manifest.json", data=json.dumps(manifest).encode()))
    path = tmp_path / "several.tar"
    path.write_bytes(layer(*files))
    return path


@pytest.mark.parametrize(
    ("which", "expected", "place"),
    [
        (":one", ONE, "docker.io/library/one:latest"),
        (":busybox:1", ONE, "docker.io/library/busybox:1"),
        (":docker.io/library/busybox:1", ONE, "docker.io/library/busybox:1"),
        (":r.example:5000/x/two:2", TWO, "r.example:5000/x/two:2"),
        (":@0", ONE, "docker.io/library/one:latest"),
        (":@2", THREE, None),
    ],
)
def test_each_image_of_an_archive_can_be_reached(
    which: str, expected: Built, place: str | None, archive: Path
) -> None:
    with open_image(f"docker-archive:{archive}{which}", AMD64) as found:
        assert f"sha256:{found.config_digest.hex()}" == expected.config["digest"]
        assert found.place == place
        assert sum(len(part) for _, parts in found.read([0]) for part in parts) > 0


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("", r"name one of its images .* \(or :@N, N from 0 to 2\)"),
        (":two", "no image two; the archive has: .*r.example:5000/x/two:2"),
        (":@3", "has 3 images, counted from 0"),
        ("@sha256:" + "0" * 64, "by reference or number, not by digest"),
    ],
)
def test_names_that_mean_no_image_of_an_archive(which: str, message: str, archive: Path) -> None:
    with pytest.raises(UsageError, match=message):
        chosen(f"docker-archive:{archive}{which}")


# Platforms


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("stated", [True, False])
def test_a_layout_with_one_image_for_each_platform(named: bool, stated: bool, tmp_path: Path) -> None:
    """The specification, oras and ko write such layouts. If the index states no platforms, those in the
    configs are used."""
    platforms = ("linux/arm64", "linux/amd64", "linux/arm/v7")
    images = [image("same", platform) for platform in platforms]
    names = {"ref": "1"} if named else {}
    entries = [
        listed(built, platform=platform if stated else None, **names)
        for built, platform in zip(images, platforms, strict=True)
    ]
    directory = layout(tmp_path / "l", images, entries)
    for built, platform in zip(images, platforms, strict=True):
        assert chosen(f"oci:{directory}" + (":1" if named else ""), platform) == built.config["digest"]


def test_two_images_of_one_name_and_platform_are_not_chosen_between(tmp_path: Path) -> None:
    directory = layout(tmp_path / "l", [ONE, TWO], [listed(ONE), listed(TWO)])
    with pytest.raises(UsageError, match="2 images of the same name and platform"):
        chosen(f"oci:{directory}")
    layout(directory, [ONE], [listed(ONE), listed(ONE, platform="linux/amd64")])
    assert chosen(f"oci:{directory}") == ONE.config["digest"]  # the same image twice


def test_what_lies_beside_the_image_is_no_image(tmp_path: Path) -> None:
    beside = [
        {**listed(TWO, platform="unknown/unknown")},
        {**TWO.manifest, "annotations": {"vnd.docker.reference.type": "attestation-manifest"}},
        {**TWO.manifest, "artifactType": "application/vnd.example.signature"},
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": "sha512:" + "0" * 128,
            "size": 3,
        },
    ]
    directory = layout(tmp_path / "l", [ONE, TWO], [*beside, listed(ONE, platform="linux/amd64")])
    assert chosen(f"oci:{directory}") == ONE.config["digest"]


INDEXES = [
    ["linux/amd64", "linux/arm64", "linux/arm/v7"],
    ["linux/arm/v5", "linux/arm/v7", "linux/arm/v6", "linux/arm64/v8"],
    ["linux/arm64/v8", "linux/arm64", "linux/amd64"],
]


@pytest.mark.parametrize("platforms", INDEXES, ids=str)
def test_an_index_is_read_as_skopeo_reads_it(platforms: list[str], tmp_path: Path) -> None:
    images = [image(f"i{number}", platform) for number, platform in enumerate(platforms)]
    entries = [listed(built, platform=name) for built, name in zip(images, platforms, strict=True)]
    index = json.dumps(
        {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}
    )
    holder = Built([layer(entry("x"))])
    descriptor = holder.blob(index.encode(), "application/vnd.oci.image.index.v1+json")
    directory = layout(tmp_path / "l", [*images, holder], [{**descriptor, "annotations": {REF: "multi"}}])
    source = f"oci:{directory}:multi"
    for wanted in (
        "linux/amd64",
        "linux/arm64",
        "linux/arm64/v8",
        "linux/arm/v7",
        "linux/arm/v6",
        "linux/arm",
    ):
        expected = by_skopeo(source, wanted, tmp_path / "out")
        if expected is not None:
            assert chosen(source, wanted) == expected, wanted


class Warned(PublishObserver):
    """Records the warnings."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def warn(self, message: str) -> None:
        self.messages.append(message)


@pytest.mark.parametrize("kind", ["oci", "docker-archive", "docker"])
def test_an_image_for_another_machine(kind: str, tmp_path: Path) -> None:
    """If the user asked for a platform, an image for another one is refused. If the platform is only this
    machine's own, there is a warning."""
    built = image("file", "linux/arm64")
    repository = Repository(tmp_path)
    with fake_registry() as registry:
        registry.add(built, "v1")
        archive = built.write_archive(tmp_path / "a", [layer(entry("file"))], [])
        source = {
            "oci": f"oci:{built.write_layout(tmp_path / 'l')}",
            "docker-archive": f"docker-archive:{archive}",
            "docker": f"docker://{registry.host}/team/app:v1",
        }[kind]
        options = replace(AMD64, plain_http=True, platform_asked=True)
        with pytest.raises(
            UsageError, match=r"is for linux/arm64, and --platform asks for linux/amd64: publish"
        ):
            repository.publish(source, place="r.example/app:1", images=options)
        observer = Warned()
        options = replace(options, platform_asked=False)
        repository.publish(source, place="r.example/app:1", images=options, observer=observer)
    assert len(observer.messages) == 1
    assert "it is for linux/arm64, not for this machine's linux/amd64" in observer.messages[0]


def test_an_indexs_word_counts_more_than_a_configs(tmp_path: Path) -> None:
    """The platform in the index takes precedence, since cross-builds often leave the builder's architecture
    in the config."""
    built = image("file", "linux/amd64")
    directory = layout(tmp_path / "l", [built], [listed(built, platform="linux/arm64")])
    observer = Warned()
    options = ImageOptions(Platform("linux", "arm64"), platform_asked=True)
    source = f"oci:{directory}"
    Repository(tmp_path).publish(source, place="r.example/app:1", images=options, observer=observer)
    assert "the index says linux/arm64, the image's own config says linux/amd64" in observer.messages[0]


def test_a_config_that_says_nothing_is_taken(tmp_path: Path) -> None:
    built = Built([layer(entry("file"))], architecture="", os="")
    directory = built.write_layout(tmp_path / "l")
    with open_image(f"oci:{directory}", replace(AMD64, platform_asked=True)) as found:
        assert found.notes == ()


def test_indexes_in_indexes_have_a_bottom(tmp_path: Path) -> None:
    descriptor: dict[str, Any] = ONE.manifest
    holder = Built([layer(entry("one"))])
    for _ in range(9):
        index = json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode()
        descriptor = holder.blob(index, "application/vnd.oci.image.index.v1+json")
    directory = layout(tmp_path / "l", [holder], [descriptor])
    with pytest.raises(Exception, match="over 8 indexes in one another"):
        chosen(f"oci:{directory}")
