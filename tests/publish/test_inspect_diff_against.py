"""inspect, diff, and check --against."""

import json
import os
from pathlib import Path

from lazyfs.core.catalog.inode import Inode
from lazyfs.images.snapshots import snapshot
from lazyfs.repository.edit import Edit
from tests.support.cli import lazyfs
from tests.support.fake_registry import fake_registry
from tests.support.oci_images import Built, entry, layer
from tests.support.repositories import NOW, Repository

BASE = layer(entry("etc/a", data=b"a"), entry("etc/b", data=b"b"), entry("data", data=os.urandom(40_000)))
CONFIG = {"Env": ["A=1"], "Entrypoint": ["run"], "Cmd": ["x y"], "Labels": {"k": "v"}, "User": "me"}


def publish(repository: Repository, place: Path, tag: str, *layers: bytes) -> Built:
    image = Built([BASE, *layers], config=CONFIG)
    repository.publish(f"oci:{image.write_layout(place / tag)}", place=f"r.example/x:{tag}", plain=False)
    return image


def test_inspect_a_source_and_a_published_image(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    image = publish(repository, tmp_path, "1")
    source = json.loads(lazyfs("inspect", f"oci:{tmp_path / '1'}", "--json").stdout)
    published = json.loads(lazyfs("inspect", "r.example/x:1", repository.path, "--json").stdout)
    for facts in (source, published):
        assert facts["id"] == image.config["digest"]
        assert facts["platform"] == "linux/amd64"
        assert (facts["env"], facts["cmd"], facts["labels"]) == (["A=1"], ["x y"], {"k": "v"})
        assert [item["diff_id"] for item in facts["layers"]] == image.diff_ids
    assert source["layers"][0]["size"] == image.layer_descriptors[0]["size"]
    assert published["layers"][0]["size"] == 40_002
    assert published["layers"][0]["entries"] == 4
    shown = lazyfs("inspect", "r.example/x:1", repository.path).stdout
    assert "cmd         'x y'" in shown
    done = lazyfs("inspect", "r.example/none", repository.path, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_inspect_lists_tags_and_platforms() -> None:
    image = Built([BASE])
    with fake_registry() as registry:
        registry.add(image, "v1")
        registry.tags = ["v1", "v2", "v3"]
        registry.page = 1
        name = f"docker://{registry.host}/team/app"
        done = lazyfs("inspect", name, "--tags", "--plain-http")
        assert done.stdout.split() == ["v1", "v2", "v3"]
        descriptor = {**image.manifest, "platform": {"os": "linux", "architecture": "amd64"}}
        other = {**image.manifest, "platform": {"os": "linux", "architecture": "ppc64le"}}
        index = json.dumps({"schemaVersion": 2, "manifests": [descriptor, other]}).encode()
        registry.serve("multi", "application/vnd.oci.image.index.v1+json", index)
        done = lazyfs("inspect", f"{name}:multi", "--platform", "amd64", "--plain-http", "--json")
        assert json.loads(done.stdout)["platforms"] == ["linux/amd64", "linux/ppc64le"]


def test_diff_of_images_and_revisions(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    publish(repository, tmp_path, "1")
    publish(
        repository,
        tmp_path,
        "2",
        layer(entry("etc/.wh.a"), entry("etc/b", data=b"B", mode=0o600), entry("n")),
    )
    done = lazyfs("diff", "r.example/x:1", "r.example/x:2", repository.path, check=False)
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["- etc/a", "~ etc/b  (mode, content)", "+ n"]
    done = lazyfs("diff", "r.example/x:1", "r.example/x:1", repository.path)
    assert done.stdout == ""
    done = lazyfs("diff", "@2", "@3", repository.path, "--json", check=False)
    changes = {item["path"]: item["change"] for item in map(json.loads, done.stdout.splitlines())}
    assert changes["r.example/x:2"] == "added"
    assert "removed" not in changes.values()
    assert not any(path.startswith("r.example/x:1") for path in changes)
    same = lazyfs("diff", "@2/r.example/x:1", "@3/r.example/x:1", repository.path)
    assert same.stdout == ""
    done = lazyfs("diff", "@9", "@3", repository.path, check=False)
    assert (done.returncode, "no revision 9, only 1 to 3" in done.stderr) == (2, True)


def test_check_against_the_registry(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    image = publish(repository, tmp_path, "1", layer(entry("etc/.wh.a")))
    with fake_registry() as registry:
        registry.add(image, "v1")
        name = f"docker://{registry.host}/team/app:v1"
        arguments: list[str | Path] = [
            "check",
            repository.path,
            "--against",
            name,
            "--plain-http",
            "--as",
            "r.example/x:1",
        ]
        before = repository.files()
        assert "the same" in lazyfs(*arguments).stdout
        assert repository.files() == before
        moved = Built([BASE], config=CONFIG)
        registry.add(moved, "v1")
        done = lazyfs(*arguments, check=False)
        assert done.returncode == 1
        assert f"the registry's image is ../{moved.flat}" in done.stderr
        registry.add(image, "v1")
        spoil(repository, image.flat)  # the name is right, the tree is another
        done = lazyfs(*arguments, check=False)
        assert (done.returncode, done.stderr.splitlines()[-1]) == (
            1, f"lazyfs: {image.flat} differs from the tree of the registry's layers",
        )  # fmt: skip


def spoil(repository: Repository, path: str) -> None:
    """Commits a revision with an empty tree at the path."""
    with Edit(repository.store, repository.keys, lambda: NOW) as edit:
        edit.put(path, snapshot(Inode(0o40755), edit.base.params, edit.ingest))
        edit.commit()
