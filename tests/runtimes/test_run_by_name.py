"""A published image becomes a running program, by the image's name alone."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lazyfs.demo.files import with_links
from lazyfs.demo.layout import Layout
from tests.support.cli import lazyfs, mounted, new_repository

NAME = "run.example/team/tool:v1"


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Mounts a repository with one image, whose configuration has everything that a start needs."""
    directory = tmp_path_factory.mktemp("by-name")
    layout = Layout(str(directory / "layout"))
    layout.add_layer(with_links("/bin/busybox"), {"/data/greeting": b"hello\n", "/etc/app": b"x"})
    layout.finish(
        "v1",
        {
            "Env": ["PATH=/usr/bin:/bin", "GREETING=greeting"],
            "WorkingDir": "/data",
            "Entrypoint": ["busybox"],
            "Cmd": ["sh", "-c", "busybox cat $GREETING"],
        },
    )
    store, keys = new_repository(directory, "run.example")
    lazyfs("publish", f"oci:{layout.directory}:v1", store, "--as", NAME, "--keys", keys)
    with tarfile.open(directory / "tools.tar", "w") as tar:
        for name, target in (("app:1", "/"), ("up:1", "../../../../../../../..")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
    lazyfs("publish", f"tar:{directory}/tools.tar", store, "--as", "tools", "--keys", keys)
    options = ("--cache", directory / "cache", "--trust", store / "metadata/1.root.json")
    with mounted(store, directory / "mnt", *options) as point:
        yield point


@pytest.mark.parametrize("name", [NAME, "team/tool:v1", f"docker://{NAME}", "docker://team/tool:v1"])
def test_an_image_starts_as_its_configuration_says(mount: Path, name: str) -> None:
    assert lazyfs("run", name).stdout == "hello\n"


def test_a_command_of_the_callers_own_keeps_environment_and_directory(mount: Path) -> None:
    done = lazyfs(
        "run", mount / NAME, "--env", "MORE=1", "--", "busybox", "sh", "-c", "pwd; echo $GREETING $MORE"
    )
    assert done.stdout == "/data\ngreeting 1\n"


def test_the_entry_point_is_put_in_front_when_asked_for(mount: Path) -> None:
    assert lazyfs("run", NAME, "--entrypoint", "--", "echo", "out").stdout == "out\n"


def test_bind_points_the_image_lacks_are_made_over_the_mount(mount: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("host\n")
    script = "busybox cat /made/here/in; busybox touch /made/here/out; busybox cat /etc/app"
    done = lazyfs("run", NAME, "-B", f"{tmp_path}:/made/here", "--", "busybox", "sh", "-c", script)
    assert done.stdout == "host\nx"
    assert (tmp_path / "out").exists()


def test_explain_names_the_image_by_content_and_where_its_defaults_come_from(mount: Path) -> None:
    plan = json.loads(lazyfs("run", NAME, "--explain", "--json").stdout)
    assert plan["image"].startswith(f"{mount}/.flat/")
    assert plan["described_by"] == f"{mount}/.metadata/{NAME}/config.json"


@pytest.mark.parametrize("name", ["app:1", "up:1"])
def test_a_published_link_to_the_host_is_neither_run_nor_pinned(mount: Path, name: str) -> None:
    for image in (f"tools/{name}", str(mount / "tools" / name)):
        done = lazyfs("run", image, "--", "/bin/cat", "/etc/passwd", check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"a link in {mount} leads out of it" in done.stderr
    done = lazyfs("cache", "pin", mount / "tools" / name / "etc", check=False)
    assert done.returncode == 2
    assert f"a link in {mount} leads out of it" in done.stderr
