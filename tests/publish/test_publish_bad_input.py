"""A source that cannot be published gives one clear error line and a non-zero exit code, and leaves the
repository unchanged."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import lazyfs
from tests.support.oci_images import Built, compress, entry, layer
from tests.support.repositories import Repository

GOOD = layer(entry("a", data=os.urandom(50_000)), entry("b"))


def truncated_tar(place: Path) -> str:
    (place / "t.tar").write_bytes(GOOD[:20_000])
    return f"tar:{place}/t.tar"


def tar_without_its_end(place: Path) -> str:
    (place / "t.tar").write_bytes(GOOD[: 512 + 50_176])
    return f"tar:{place}/t.tar"


def truncated_gzip(place: Path) -> str:
    (place / "t.tar.gz").write_bytes(compress(GOOD, "gzip")[:20_000])
    return f"tar:{place}/t.tar.gz"


def no_tar(place: Path) -> str:
    (place / "text").write_text("just some text, and more of it than one header's worth " * 20)
    return f"tar:{place}/text"


def xz(place: Path) -> str:
    (place / "t.tar.xz").write_bytes(b"\xfd7zXZ\0" + bytes(100))
    return f"tar:{place}/t.tar.xz"


def no_such_file(place: Path) -> str:
    return f"tar:{place}/nothing.tar"


def no_layout(place: Path) -> str:
    return f"oci:{place}"


def corrupt_layer(place: Path) -> str:
    image = Built([GOOD], how="none")
    layout = image.write_layout(place / "i")
    blob = layout / "blobs/sha256" / image.layer_descriptors[0]["digest"].removeprefix("sha256:")
    data = bytearray(blob.read_bytes())
    data[30_000] ^= 1
    blob.write_bytes(data)
    return f"oci:{layout}"


def corrupt_config(place: Path) -> str:
    image = Built([GOOD])
    layout = image.write_layout(place / "i")
    blob = layout / "blobs/sha256" / image.config["digest"].removeprefix("sha256:")
    blob.write_bytes(blob.read_bytes().replace(b"amd64", b"arm64"))
    return f"oci:{layout}"


def missing_layer(place: Path) -> str:
    image = Built([GOOD])
    layout = image.write_layout(place / "i")
    (layout / "blobs/sha256" / image.layer_descriptors[0]["digest"].removeprefix("sha256:")).unlink()
    return f"oci:{layout}"


def unknown_tag(place: Path) -> str:
    return f"oci:{Built([GOOD]).write_layout(place / 'i')}:nonesuch"


def other_platform(place: Path) -> str:
    image = Built([GOOD])
    layout = image.write_layout(place / "i")
    arm = {**image.manifest, "platform": {"os": "linux", "architecture": "s390x"}}
    inner = image.blob(json.dumps({"schemaVersion": 2, "manifests": [arm]}).encode(), "index")
    image.write_layout(layout)
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [inner]}))
    return f"oci:{layout}"


def foreign_layer(place: Path) -> str:
    image = Built([GOOD])
    layout = image.write_layout(place / "i")
    foreign = {
        **image.layer_descriptors[0],
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "urls": ["https://elsewhere.example/layer"],
    }
    document = {"schemaVersion": 2, "config": image.config, "layers": [foreign]}
    image.manifest = image.blob(json.dumps(document).encode(), "application/vnd.oci.image.manifest.v1+json")
    return f"oci:{image.write_layout(layout)}"


def schema_1(place: Path) -> str:
    image = Built([GOOD])
    document = {"schemaVersion": 1, "name": "x", "fsLayers": [{"blobSum": "sha256:" + "0" * 64}]}
    image.manifest = image.blob(json.dumps(document).encode(), "application/json")
    return f"oci:{image.write_layout(place / 'i')}"


def no_docker_archive(place: Path) -> str:
    (place / "t.tar").write_bytes(GOOD)
    return f"docker-archive:{place}/t.tar"


def unknown_kind(place: Path) -> str:
    return f"zip:{place}"


def socket_of_a_directory(place: Path) -> str:
    return f"dir:{place}/nothing"


CASES: list[tuple[Callable[[Path], str], str]] = [
    (truncated_tar, "truncated?"),
    (tar_without_its_end, "truncated?"),
    (truncated_gzip, "truncated?"),
    (no_tar, "not a tar archive"),
    (xz, "compressed with xz: only gzip and zstd are read; recompress it"),
    (no_such_file, "No such file or directory"),
    (no_layout, "is not an OCI image layout"),
    (corrupt_layer, "layer 0"),
    (corrupt_config, "does not match its digest"),
    (missing_layer, "No such file or directory"),
    (unknown_tag, "no image with name nonesuch; the layout has: v1"),
    (other_platform, "there is linux/s390x: choose with --platform"),
    (foreign_layer, "is a foreign layer"),
    (schema_1, "manifest of schema 1"),
    (no_docker_archive, "it has no manifest.json"),
    (unknown_kind, "give docker://IMAGE, oci:DIR[:NAME], oci-archive:FILE, docker-archive:FILE, sif:FILE,"),
    (socket_of_a_directory, "not a directory"),
]


@pytest.mark.parametrize(("make", "message"), CASES, ids=[case.__name__ for case, _ in CASES])
def test_bad_source(make: Callable[[Path], str], message: str, tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    before = repository.files()
    place = tmp_path / "source"
    place.mkdir()
    source = make(place)
    path = "r.example/x:1" if source.startswith(("oci", "docker")) else "some/tree"
    done = lazyfs(
        "publish", source, repository.path, "--keys", repository.keys_path, "--as", path, "--platform",
        "amd64", check=False,
    )  # fmt: skip
    assert done.returncode in (1, 2)
    *shown, last = done.stderr.splitlines()
    assert last.startswith("lazyfs: ")
    assert message in last
    assert all(line.startswith(source) for line in shown), done.stderr  # progress: one line for each layer
    assert source in last or source.partition(":")[2].partition(":")[0] in last
    assert repository.files() == before
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "source",
    [
        "docker://me:word@r.example/app:1",
        "https://me:word@r.example/app.sif?Signature=word",
        *(
            f"{kind}:https://me:word@r.example/a?s=word"
            for kind in ("tar", "dir", "oci", "sif", "docker-archive")
        ),
    ],
)
def test_no_message_about_a_source_repeats_a_secret(source: str, tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    done = lazyfs(
        "publish", source, repository.path, "--keys", repository.keys_path, "--as", "a/b", check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "r.example/a" in done.stderr
    assert "word" not in done.stderr


def test_missing_repository_and_wrong_keys(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    before = repository.files()
    other = tmp_path / "other"
    other.mkdir()
    Repository(other)
    source = f"dir:{tmp_path / 'keys'}"
    for store, keys, message in [
        (tmp_path / "nowhere", repository.keys_path, "lazyfs repo init"),
        (tmp_path / "keys", repository.keys_path, "lazyfs repo init"),
        (repository.path, tmp_path / "nowhere", "name the one that `lazyfs repo init` made"),
        (repository.path, other / "keys", "keys needed are in"),
    ]:
        done = lazyfs("publish", source, store, "--keys", keys, "--as", "some/tree", check=False)
        assert done.returncode == 2
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    left = set(repository.files()) - set(before)
    assert {path.parent.parent.name for path in left} <= {"data"}  # objects that no revision names
    assert repository.check().bad == 0


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (".flat/x", "do not begin with a dot"),
        ("a/../b", "do not begin with a dot"),
        ("r.example/x:1/below", "is an image or a published tree"),
        ("r.example", "is a folder of images already"),
    ],
)
def test_bad_places(place: str, message: str, tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    repository.publish(f"oci:{Built([GOOD]).write_layout(tmp_path / 'i')}", place="r.example/x:1")
    with pytest.raises(Exception, match=message):
        repository.publish(f"dir:{tmp_path / 'keys'}", place=place)


def test_check_names_what_is_missing_or_wrong(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    repository.publish(f"oci:{Built([GOOD]).write_layout(tmp_path / 'i')}", place="r.example/x:1")
    largest = max(repository.path.glob("data/*/*"), key=lambda path: path.stat().st_size)
    whole = largest.read_bytes()
    name = largest.parent.name + largest.name
    for damage in (None, whole[:-1], whole[:2000] + b"\xff" + whole[2001:], b""):
        if damage is None:
            largest.unlink()
        else:
            largest.write_bytes(damage)
        done = lazyfs("check", repository.path, check=False)
        assert done.returncode == 1
        assert name in done.stderr
        assert "/a: " in done.stderr
    assert json.loads(lazyfs("check", repository.path, "--json", check=False).stdout)["bad"] == 1
    largest.write_bytes(whole)
    assert lazyfs("check", repository.path).returncode == 0
