"""docker-registry 2.8 with accounts: a publish, a second publish of the same tag, and a publish of a tag that
shares layers."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.core.oci.manifest import Platform
from lazyfs.images.registry.accounts import Asked
from lazyfs.images.sources.open import ImageOptions, open_image
from tests.support.catalog_listing import Listed, open_tree
from tests.support.cli import lazyfs
from tests.support.oci_images import Built, entry, layer
from tests.support.registry import PASSWORD, USER, RealRegistry, real_registry
from tests.support.repositories import Repository
from tests.support.umoci_layout import layout_of

BASE = layer(*[entry(f"file{number}", data=os.urandom(20_000)) for number in range(50)])
SECOND = layer(entry("second", data=os.urandom(300_000)))
THIRD = layer(entry("third", data=os.urandom(200_000)), entry(".wh.file1"))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    directory = tmp_path_factory.mktemp("registry")
    with real_registry(directory) as registry:
        for tag, layers in (("1", [BASE, SECOND]), ("2", [BASE, SECOND, THIRD])):
            layout = Built(layers).write_layout(directory / f"layout{tag}", tag)
            registry.push(layout, tag, f"physics/analysis:{tag}")
        yield registry


@pytest.fixture
def options(tmp_path: Path) -> ImageOptions:
    password = tmp_path / "password"
    password.write_text(PASSWORD + "\n")
    return ImageOptions(
        Platform("linux", "amd64"), Asked(USER, str(password)), plain_http=True, allow_public=True
    )


def test_publish_again_and_a_tag_with_shared_layers(
    tmp_path: Path, registry: RealRegistry, options: ImageOptions
) -> None:
    repository = Repository(tmp_path)
    image = f"docker://{registry.host}/physics/analysis"
    registry.blobs_read()

    first = repository.publish(f"{image}:1", images=options)
    assert first.changed
    one, two = Built([BASE, SECOND]), Built([BASE, SECOND, THIRD])
    assert registry.blobs_read() == {
        item["digest"]: item["size"] for item in [one.config, *one.layer_descriptors]
    }

    again = repository.publish(f"{image}:1", images=options)
    assert not again.changed
    assert registry.blobs_read() == {}

    repository.publish(f"{image}:2", images=options)
    assert registry.blobs_read() == {
        item["digest"]: item["size"] for item in [two.config, two.layer_descriptors[2]]
    }
    tree = open_tree(repository.path)
    link = tree.find(f"{registry.host}/physics/analysis:2")
    assert link is not None
    assert link.entry.content == f"../../{two.flat}".encode()
    assert b"file1" not in Listed(tree, two.flat).entries
    assert repository.check().bad == 0


@pytest.mark.root
def test_an_image_that_umoci_made(tmp_path: Path, registry: RealRegistry, options: ImageOptions) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/file").write_bytes(os.urandom(100_000))
    registry.push(layout_of(tree, tmp_path), "latest", "physics/umoci:1")
    repository = Repository(tmp_path)
    repository.publish(f"docker://{registry.host}/physics/umoci:1", images=options)
    repository.publish("dir:" + str(tree), place="plain/tree")
    assert repository.check().bad == 0
    shown = open_tree(repository.path)
    published = shown.find("plain/tree/sub/file")
    link = shown.find(f"{registry.host}/physics/umoci:1")
    assert published is not None
    assert link is not None
    flat = link.entry.content.decode().lstrip("./")
    from_image = shown.find(f".{flat}/opt/sub/file")
    assert from_image is not None
    assert from_image.entry.content == published.entry.content


def test_a_private_image_needs_allow_public(tmp_path: Path, registry: RealRegistry) -> None:
    repository = Repository(tmp_path)
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    done = lazyfs(
        "publish", f"docker://{registry.host}/physics/analysis:1", repository.path, "--plain-http",
        "--keys", repository.keys_path, "--username", USER, "--password-file", password, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "is private" in done.stderr
    assert "--allow-public" in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_account_and_a_wrong_password_are_one_clear_line_without_the_password(
    tmp_path: Path, registry: RealRegistry
) -> None:
    repository = Repository(tmp_path)
    before = repository.files()
    password = tmp_path / "password"
    password.write_text("wrong-and-secret")
    account: list[str | Path] = ["--username", USER, "--password-file", password]
    nobody: list[str | Path] = []
    for arguments in (nobody, account):
        done = lazyfs(
            "publish", f"docker://{registry.host}/physics/analysis:1", repository.path, "--plain-http",
            "--keys", repository.keys_path, "--allow-public", *arguments, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert "refuses" in done.stderr
        assert done.stderr.count("\n") == 1
        assert "wrong-and-secret" not in done.stderr
    assert repository.files() == before


def test_an_unknown_tag_is_one_clear_line(
    tmp_path: Path, registry: RealRegistry, options: ImageOptions
) -> None:
    repository = Repository(tmp_path)
    with pytest.raises(Exception, match="has no manifests/none"):
        repository.publish(f"docker://{registry.host}/physics/analysis:none", images=options)


def test_tls_is_not_given_up_unasked(tmp_path: Path, registry: RealRegistry, options: ImageOptions) -> None:
    secure = ImageOptions(options.platform, options.asked, pause=lambda _seconds: None)
    with pytest.raises(Exception, match=r"https://.* does not speak TLS there: give --plain-http"):
        Repository(tmp_path).publish(f"docker://{registry.host}/physics/analysis:1", images=secure)


def test_a_digest_names_its_image(tmp_path: Path, registry: RealRegistry, options: ImageOptions) -> None:
    repository = Repository(tmp_path)
    digest = Built([BASE, SECOND]).manifest["digest"]
    image = f"docker://{registry.host}/physics/analysis@{digest}"
    report = repository.publish(image, images=options)
    assert report.places[image] == f"{registry.host}/physics/analysis:{digest}"


def test_a_password_needs_a_readable_place(options: ImageOptions) -> None:
    asked = ImageOptions(options.platform, Asked(USER, "/nonexistent"))
    with (
        pytest.raises(UsageError, match="password /nonexistent: No such file"),
        open_image("docker://localhost/x", asked),
    ):
        pass
