"""The files that a publish adds to images, and the images' own files, which it does not touch."""

import json
import os
import stat
import subprocess
import tarfile
from pathlib import Path

from lazyfs.core.catalog.entry import ADDED, Entry
from lazyfs.core.oci.manifest import parse_config
from lazyfs.core.oci.start_files import BIND_POINTS, LINKS, additions
from tests.support.catalog_listing import Listed, open_tree
from tests.support.oci_images import Built, entry, layer
from tests.support.repositories import Repository


def published(tmp_path: Path, data: bytes, **config: object) -> tuple[Repository, Built]:
    repository = Repository(tmp_path)
    image = Built([data], config=dict(config))
    repository.publish(f"oci:{image.write_layout(tmp_path / 'i')}", place="r.example/x:1", plain=False)
    return repository, image


def find(repository: Repository, image: Built, path: str) -> Entry | None:
    place = open_tree(repository.path).find(f"{image.flat}/{path}")
    return place.entry if place else None


def test_bind_points_and_start_up_files_are_added_and_marked(tmp_path: Path) -> None:
    repository, image = published(tmp_path, layer(entry("bin/sh", data=b"x")))
    for path in [*BIND_POINTS, *LINKS, "etc/hosts", ".singularity.d/actions/exec", ".singularity.d/libs"]:
        found = find(repository, image, path)
        assert found is not None, path
        assert found.flags & ADDED, path
    assert sorted(Listed(open_tree(repository.path), image.flat).entries) == [b"bin", b"bin/sh"]


def test_nothing_existing_is_replaced_or_followed(tmp_path: Path) -> None:
    data = layer(
        entry("tmp", tarfile.SYMTYPE, linkname="/data/tmp"),
        entry("var", tarfile.SYMTYPE, linkname="etc"),
        entry("etc", tarfile.DIRTYPE, mode=0o700, uid=7),
        entry("etc/hosts", data=b"mine"),
        entry("singularity", data=b"mine too"),
        entry("srv", data=b"a file"),
    )
    repository, image = published(tmp_path, data)
    tree = open_tree(repository.path)
    for path, mode in [("tmp", stat.S_IFLNK), ("srv", stat.S_IFREG), ("singularity", stat.S_IFREG)]:
        found = find(repository, image, path)
        assert found is not None
        assert stat.S_IFMT(found.mode) == mode
        assert not found.flags & ADDED
    assert tree.file(f"{image.flat}/etc/hosts") == b"mine"
    etc = find(repository, image, "etc")
    assert etc is not None
    assert (stat.S_IMODE(etc.mode), etc.uid, etc.flags & ADDED) == (0o700, 7, 0)
    assert find(repository, image, "etc/tmp") is None  # var/tmp was not made through the link


def test_plain_adds_nothing(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    image = Built([layer(entry("only"))])
    repository.publish(f"oci:{image.write_layout(tmp_path / 'i')}", place="r.example/x:1", plain=True)
    tree = open_tree(repository.path)
    flat = tree.find(image.flat)
    assert flat is not None
    assert [item.name for item in tree.entries(flat)] == [b"only"]


def script(name: str, config: dict[str, object]) -> str:
    document = json.dumps({"rootfs": {"diff_ids": []}, "config": config}).encode()
    made = {item.path: item.data for item in additions(parse_config(document, "test", 0))}
    return made[f".singularity.d/{name}"].decode()


def run(text: str, *arguments: str, cwd: str = "/usr", **environment: str) -> str:
    done = subprocess.run(
        ["sh", "-c", text, "runscript", *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], **environment},
    )
    return done.stdout


def test_runscript_follows_entrypoint_and_command(tmp_path: Path) -> None:
    both = script("runscript", {"Entrypoint": ["printf", "[%s]", "a b'c"], "Cmd": ["d e"]})
    assert run(both) == "[a b'c][d e]"
    assert run(both, "x y") == "[a b'c][x y]"
    assert run(script("runscript", {"Cmd": ["echo", "$HOME *"]})) == "$HOME *\n"
    assert run(script("runscript", {"Cmd": ["echo"]}), "printf", "%s", "given") == "given"
    moved = script("runscript", {"Cmd": ["pwd"], "WorkingDir": str(tmp_path)})
    assert run(moved, cwd="/") == f"{tmp_path}\n"
    assert run(moved, cwd="/usr") == "/usr\n"


def test_environment_is_the_images_unless_the_caller_has_set_it() -> None:
    values = ['A=it\'s $HOME `id` "}" x', "PATH=/opt/bin:/bin:/usr/bin", "no-name=1", "EMPTY="]
    text = script("env/10-docker2singularity.sh", {"Env": values})
    show = text + 'printf "%s|%s|%s" "$A" "$PATH" "${EMPTY-unset}"'
    assert run(show) == 'it\'s $HOME `id` "}" x|/opt/bin:/bin:/usr/bin|'
    assert run(show, A="mine").startswith("mine|/opt/bin")
    assert "no-name" not in text
