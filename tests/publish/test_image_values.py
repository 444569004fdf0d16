"""Odd values in manifests and configs, as tools and hostile publishers write them: null, zero, empty, huge,
hostile."""

import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.errors import BadData, FormatError, UsageError
from lazyfs.core.oci.manifest import Index, Platform, parse, parse_archive, parse_config
from lazyfs.core.oci.platform import choose
from lazyfs.core.oci.remarks import remarks
from lazyfs.core.oci.start_files import additions
from lazyfs.images.inspect import of_published
from lazyfs.images.observer import PublishObserver
from lazyfs.images.sources.open import ImageOptions, open_image
from lazyfs.repository.commit import read_revision
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import reader
from tests.support import trees
from tests.support.catalog_listing import Listed, open_tree
from tests.support.oci_images import Built, entry, layer
from tests.support.registry import real_registry
from tests.support.repositories import Repository

LAYER = layer(entry("file", data=b"content"))
I64 = 1 << 63


class Warned(PublishObserver):
    """Records the warnings."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def warn(self, message: str) -> None:
        self.messages.append(message)


def with_manifest(built: Built, **fields: Any) -> Built:
    """Returns the image with these fields of its manifest replaced."""
    document = json.loads(built.blobs[built.manifest["digest"]])
    document.update(fields)
    built.manifest = built.blob(json.dumps(document).encode(), built.manifest["mediaType"])
    return built


def unpacks(layout: Path, directory: Path) -> bool:
    """Returns True if umoci unpacks the image of the layout."""
    command = ["umoci", "--log=fatal", "unpack", "--rootless", "--image", f"{layout}:v1", str(directory)]
    done = subprocess.run(command, check=False, capture_output=True)
    shutil.rmtree(directory, ignore_errors=True)
    return done.returncode == 0


CONFIGS: list[dict[str, Any]] = [
    {"created": None},
    {"created": "0001-01-01T00:00:00Z"},
    {"created": "9999-12-31T23:59:59.999999999Z"},
    {"config": None},
    {"config": {"Env": None, "Cmd": None, "Entrypoint": None, "Labels": None, "Volumes": None}},
    {"config": {"WorkingDir": None, "User": None}},
    {"config": {"Env": [], "Cmd": [], "Labels": {}}},
    {"history": None},
    {"history": []},
    {"variant": None, "author": None, "os.features": None},
]
LOOSER: list[dict[str, Any]] = [
    {"config": {"Env": [None, "", "A", "=b", "A=1"]}},
    {"rootfs": {"type": None, "diff_ids": Built([LAYER]).diff_ids}},
    {"config": {"Env": "A=1", "Cmd": "/bin/sh", "Labels": []}},
    {"config": []},
    {"created": 0},
]
"""Configs that umoci refuses and Docker accepts."""


@pytest.mark.parametrize("fields", [*CONFIGS, *LOOSER], ids=str)
def test_configs_that_umoci_or_docker_take(fields: dict[str, Any], tmp_path: Path) -> None:
    built = Built([LAYER], **fields)
    layout = built.write_layout(tmp_path / "layout")
    assert unpacks(layout, tmp_path / "bundle") or fields in LOOSER
    repository = Repository(tmp_path)
    repository.publish(f"oci:{layout}", plain=False)
    assert Listed(open_tree(repository.path), built.flat).read(b"file") == b"content"
    assert repository.check().bad == 0


@pytest.mark.parametrize("layers", [[], None])
@pytest.mark.parametrize("diff_ids", [[], None])
def test_images_without_layers(layers: Any, diff_ids: Any, tmp_path: Path) -> None:
    built = with_manifest(Built([], rootfs={"type": "layers", "diff_ids": diff_ids}), layers=layers)
    layout = built.write_layout(tmp_path / "layout")
    assert unpacks(layout, tmp_path / "bundle")
    repository = Repository(tmp_path)
    place = next(iter(repository.publish(f"oci:{layout}").places.values()))
    revision = read_revision(repository.store)
    assert of_published(StoredTree(reader(repository.store), revision.root), place).layers == []


@pytest.mark.parametrize(
    "fields",
    [
        {"annotations": None, "subject": None, "artifactType": None},
        {"mediaType": None},
        {"schemaVersion": 2, "mediaType": ""},
    ],
    ids=str,
)
def test_manifests_that_skopeo_takes(fields: dict[str, Any], tmp_path: Path) -> None:
    layout = with_manifest(Built([LAYER]), **fields).write_layout(tmp_path / "layout")
    command = ["skopeo", "copy", "-q", "--insecure-policy", f"oci:{layout}:v1", f"dir:{tmp_path}/copy"]
    subprocess.run(command, check=True, capture_output=True)
    Repository(tmp_path).publish(f"oci:{layout}")


@pytest.mark.parametrize(
    ("created", "expected"),
    [
        ("2024-05-06T07:08:09Z", 1714979289 * 10**9),
        ("2024-05-06T07:08:09.123456789+02:00", 1714972089 * 10**9 + 123456000),
        ("2024-05-06t07:08:09z", 1714979289 * 10**9),
        (" 1969-12-31T23:59:59Z ", -(10**9)),
        ("0001-01-01T00:00:00Z", 0),
        ("0001-01-01T00:00:00+01:00", 0),
        ("1500-01-01T00:00:00Z", 1 - I64),
        ("2262-05-01T00:00:00Z", I64 - 1),
        ("9999-12-31T23:59:59-12:00", I64 - 1),
        ("2016-12-31T23:59:60Z", 0),
        ("yesterday", 0),
        ("", 0),
        (0, 0),
        ({"seconds": 1}, 0),
    ],
)
def test_times_of_images(created: Any, expected: int) -> None:
    built = Built([], created=created)
    config = parse_config(built.blobs[built.config["digest"]], "x", 0)
    assert config.created_ns == expected
    assert ["cannot be kept" in line for line in remarks(config)] == [True] * (abs(expected) > I64 - 2)


def test_what_is_not_kept_is_told(tmp_path: Path) -> None:
    data = layer(entry("far", uid=(1 << 32) - 1, mtime=1 << 40), entry("near"), entry("too", gid=1 << 33))
    built = Built(
        [data], created="9999-12-31T23:59:59Z", config={"Cmd": ["x" * 200_000], "Env": ["A=\x1b[2J"]}
    )
    observer = Warned()
    repository = Repository(tmp_path)
    repository.publish(f"oci:{built.write_layout(tmp_path / 'layout')}", observer=observer)
    made, variable, command, clamps = observer.messages
    assert "created '9999-12-31T23:59:59Z' cannot be kept" in made
    assert "Env[0]: 'A=\\x1b[2J' has " in variable
    assert "Cmd[0] has 200000 bytes: Linux hands at most 131071 to a program" in command
    assert "layer 0" in clamps
    assert "b'far': owner 4294967295:0 became 65534:0, time 1099511627776 s became 9223372036 s" in clamps
    assert clamps.endswith(", and 1 more")
    assert all(message.isprintable() for message in observer.messages)
    found = Listed(open_tree(repository.path), built.flat).entries
    assert (found[b"far"].uid, found[b"far"].mtime, found[b"too"].gid) == (65534, I64 - 1, 65534)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"Cmd": "/bin/sh"}, ["/bin/sh"]),  # Docker's API accepts a string
        ({"Cmd": ["a", None]}, ["a", ""]),
        ({"Cmd": None}, None),
    ],
)
def test_commands(config: dict[str, Any], expected: Any) -> None:
    built = Built([], config=config)
    run = parse_config(built.blobs[built.config["digest"]], "x", 0).config
    assert run is not None
    assert run.cmd == expected


def test_labels_that_are_no_text_and_text_that_is_no_unicode() -> None:
    built = Built([], config={"Labels": {"number": 7, "list": [1], "none": None, "text": "MARK"}})
    data = built.blobs[built.config["digest"]]
    for odd in (b"\xe9t\xe9", b"\\ud800", b"\\udfff\\ud83d"):
        run = parse_config(data.replace(b"MARK", odd), "x", 0).config
        assert run is not None
        assert run.labels is not None
        assert {key: run.labels[key] for key in ("number", "list")} == {"number": "7", "list": "[1]"}
        assert "\ufffd" in run.labels["text"]
    pair = parse_config(data.replace(b"MARK", rb"\\ud800 \ud83d\ude00"), "x", 0).config
    assert pair is not None
    assert pair.labels is not None
    assert pair.labels["text"] == "\\ud800 \U0001f600"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("Env", ["A=1", "X=a\0--bind\0/home\0/tmp"]),
        ("Cmd", ["a\0b"]),
        ("Entrypoint", ["\0"]),
        ("WorkingDir", "/a\0b"),
        ("User", "0\0"),
        ("Labels", {"a\0b": "c"}),
    ],
)
def test_a_nul_in_a_config_is_refused_where_it_enters(field: str, value: Any, tmp_path: Path) -> None:
    layout = Built([LAYER], config={field: value}).write_layout(tmp_path / "layout")
    repository = Repository(tmp_path)
    before = repository.files()
    with pytest.raises(FormatError, match=f"the config's {field} has a NUL in ") as caught:
        repository.publish(f"oci:{layout}")
    assert str(caught.value).isprintable()
    assert repository.files() == before


DEEP = b"[" * 200_000 + b"]" * 200_000


@pytest.mark.parametrize("where", ["index.json", "manifest", "config", "manifest.json"])
def test_deep_json_is_refused(where: str, tmp_path: Path) -> None:
    built = Built([LAYER])
    deep = b'{"schemaVersion": 2, "x": ' + DEEP + b"}"
    if where == "manifest.json":
        path = tmp_path / "archive.tar"
        path.write_bytes(layer(entry("manifest.json", data=b'[{"x": ' + DEEP + b"}]")))
        source = f"docker-archive:{path}"
    else:
        if where == "config":
            document = json.loads(built.blobs[built.manifest["digest"]])
            document["config"] = built.blob(deep, "x")
            built.manifest = built.blob(json.dumps(document).encode(), built.manifest["mediaType"])
        elif where == "manifest":
            built.manifest = built.blob(deep, built.manifest["mediaType"])
        directory = built.write_layout(tmp_path / "layout")
        if where == "index.json":
            (directory / "index.json").write_bytes(deep)
        source = f"oci:{directory}"
    with pytest.raises(FormatError, match="JSON in JSON, too deep"):
        Repository(tmp_path).publish(source)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layers": [{"digest": Built([]).config["digest"], "size": -1}]}, "has size -1"),
        ({"layers": [{"digest": "sha256:x", "size": 1}]}, "not 64 lower-case hex"),
        ({"layers": [None]}, r"layers\[0\]|layers\[...\]"),
        ({"layers": [{"digest": None, "size": 1}]}, "missing required field `digest`"),
        ({"layers": "x"}, "layers"),
        ({"config": None}, "names no config"),
        ({"config": []}, "config"),
        ({"layers": [{"digest": "sha256:" + "0" * 64, "size": 1 << 70}]}, "has size 1180591620717411303424"),
        ({"schemaVersion": "two"}, "schemaVersion"),
    ],
)
def test_manifests_that_cannot_be(fields: dict[str, Any], message: str) -> None:
    built = with_manifest(Built([LAYER]), **fields)
    with pytest.raises(FormatError, match=message):
        parse(built.blobs[built.manifest["digest"]], "image")


EXTREMES: list[Any] = [
    None, True, 0, -1, 1 << 31, 1 << 63, 1 << 70, 1.5, -1e300,
    "", " ", "\0", "a\0b", "\x1b", "\ud800", "0", "sha256:", "linux", "amd64", "v3", "x" * 200_000,
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z",
    [], {}, [None], [[]], [{}], ["", None, 7], {"": None}, {"a": [1, {"b": None}]},
]  # fmt: skip


def mutated(document: Any) -> Any:
    """Returns a strategy that draws the document as JSON, with one of its fields replaced or removed."""

    @st.composite
    def strategy(draw: st.DrawFn) -> bytes:
        copy = json.loads(json.dumps(document))
        place = copy
        while True:
            keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw(st.sampled_from(keys))
            inner = place[key]
            if isinstance(inner, dict | list) and inner and draw(st.booleans()):
                place = inner
                continue
            if draw(st.booleans()):
                place[key] = draw(st.sampled_from(EXTREMES))
            else:
                del place[key]
            return json.dumps(copy).encode()

    return strategy()


BUILT = Built(
    [LAYER], config={"Env": ["A=b"], "Cmd": ["c"], "Entrypoint": ["e"], "Labels": {"l": "m"}, "User": "u"}
)
CONFIG = json.loads(BUILT.blobs[BUILT.config["digest"]])
MANIFEST = json.loads(BUILT.blobs[BUILT.manifest["digest"]])
INDEX = {
    "schemaVersion": 2,
    "manifests": [
        {
            **BUILT.manifest,
            "platform": {"os": "linux", "architecture": "amd64", "variant": "v2"},
            "annotations": {},
        }
    ],
}
ARCHIVE = [{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l"]}]


def read(function: Callable[[], Any]) -> Any:
    """Calls the function and returns its result. Returns None if the function raises BadData; asserts that
    the error names the image."""
    try:
        return function()
    except BadData as error:
        refusal = str(error)
    assert refusal.startswith("image: ")
    return None


@given(mutated(CONFIG))
def test_any_config_is_read_or_refused(data: bytes) -> None:
    config = read(lambda: parse_config(data, "image", None))
    if config is None:
        return
    assert -I64 < config.created_ns < I64
    for line in remarks(config):
        assert line.isprintable()
    for addition in additions(config):
        assert b"\0" not in addition.data


@given(mutated(MANIFEST) | mutated(INDEX))
def test_any_manifest_is_read_or_refused(data: bytes) -> None:
    document = read(lambda: parse(data, "image"))
    if isinstance(document, Index):
        read(lambda: choose(document, Platform("linux", "amd64"), "image"))


@given(mutated(ARCHIVE))
def test_any_manifest_of_an_archive_is_read_or_refused(data: bytes) -> None:
    read(lambda: parse_archive(data, "image"))


def test_schema_1_is_named_by_a_real_registry(tmp_path: Path) -> None:
    """A registry states, for an image of schema 1, the digest of only a part of the manifest."""
    with real_registry(tmp_path / "registry", schema1=True) as registry:
        layout = Built([LAYER], history=[{"created_by": "x"}]).write_layout(tmp_path / "layout")
        registry.push(layout, "v1", "old/app:1", "--format=v2s1")
        password = tmp_path / "password"
        password.write_text(registry.password)
        options = ImageOptions(
            Platform("linux", "amd64"), registry.asked(password), plain_http=True, allow_public=True
        )
        with (
            pytest.raises(FormatError, match="manifest of schema 1"),
            open_image(f"docker://{registry.host}/old/app:1", options),
        ):
            pass


# Attributes


@pytest.mark.root
def test_the_attributes_of_a_layer_are_those_that_umoci_restores(tmp_path: Path) -> None:
    names = (
        "security.selinux", "security.capability", "trusted.overlay.opaque", "trusted.overlay.origin",
        "trusted.md5", "system.nfs4_acl", "user.comment",
    )  # fmt: skip
    capability = b"\x01\x00\x00\x02\x00\x20\x00\x00" + bytes(12)
    values = {name: capability.decode("latin-1") if name == "security.capability" else "x" for name in names}
    pax = {f"SCHILY.xattr.{name}": value for name, value in values.items()}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind in (("etc", tarfile.DIRTYPE), ("etc/file", tarfile.REGTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            info.pax_headers = pax
            archive.addfile(info)
    built = Built([buffer.getvalue()])
    layout = built.write_layout(tmp_path / "layout")
    subprocess.run(
        ["umoci", "--log=error", "unpack", "--image", f"{layout}:v1", tmp_path / "bundle"], check=True
    )
    repository = Repository(tmp_path)
    repository.publish(f"oci:{layout}")
    expected = trees.xattrs(tmp_path / "bundle/rootfs")
    assert Listed(open_tree(repository.path), built.flat).xattrs() == expected
    assert set(expected[b"etc/file"]) == {"security.capability", "trusted.md5", "user.comment"}


@pytest.mark.root
def test_a_directorys_host_labels_stay_on_the_host(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(b"x")
    for name in ("user.comment", "trusted.overlay.opaque", "user.overlay.opaque"):
        os.setxattr(tree / "file", name, b"y")
    repository = Repository(tmp_path)
    repository.publish(f"dir:{tree}", place="some/tree")
    found = Listed(open_tree(repository.path), "some/tree").entries
    assert found[b"file"].xattrs == ((b"user.comment", b"y"),)


def test_a_platform_in_capitals(tmp_path: Path) -> None:
    built = Built([LAYER], os="Linux", architecture="x86_64")
    options = ImageOptions(Platform("linux", "amd64"), platform_asked=True)
    with open_image(f"oci:{built.write_layout(tmp_path / 'l')}", options) as image:
        assert image.notes == ()
    other = Built([LAYER], os="Linux", architecture="aarch64")
    with (
        pytest.raises(UsageError, match="Linux/aarch64"),
        open_image(f"oci:{other.write_layout(tmp_path / 'o')}", options),
    ):
        pass
