"""`lazyfs prefetch` on a mount: the image can be read afterwards with every server dead."""

import json
import random
from pathlib import Path

import pytest

from tests.support.cli import lazyfs, mounted, serving, status
from tests.support.images import image, live, packed
from tests.support.repository import Published

pytestmark = pytest.mark.root

LARGE = random.Random(1).randbytes(1 << 20)
FILES = {f"{at:02}": b"%d" % at * 999 for at in range(40)}


@pytest.fixture
def images(published: Published) -> Published:
    made = published.objects
    tree = {"small": packed(made, FILES), "large": LARGE, "deep": {"er": {"f": b"deep"}}}
    published.commit(live(made, {"lib": {"all:1": image(made, tree, split=8), "link:1": "all:1"}}))
    return published


def trust(published: Published) -> Path:
    return published.store / "metadata/1.root.json"


@pytest.mark.parametrize("kind", ["direct", "pyfuse3"])
@pytest.mark.parametrize("name", ["lib/all:1", "lib/link:1"])
def test_all_of_an_image_can_be_read_afterwards_without_a_server(
    kind: str, name: str, images: Published, tmp_path: Path
) -> None:
    mnt, options = tmp_path / "mnt", ("--cache", tmp_path / "cache", "--fuse", kind, "--patience", "2")
    with serving(images.store) as url, mounted(url, mnt, *options, "--trust", trust(images)):
        assert (mnt / "lib/all:1/small/07").read_bytes() == FILES["07"]
        done = json.loads(lazyfs("prefetch", name, "--mount", mnt, "--json").stdout)
        assert done["state"] == "done"
        assert done["here_bytes"] == done["bytes"] > done["fetched_bytes"] > len(LARGE)
        again = json.loads(lazyfs("prefetch", f"{mnt}/{name}", "--json").stdout)
        assert (again["fetched_bytes"], again["bytes"]) == (0, done["bytes"])
        assert lazyfs("prefetch", f"{mnt}/{name}").stdout.endswith("0 B fetched\n")
    with mounted(url, mnt, *options):
        assert (mnt / "lib/all:1/large").read_bytes() == LARGE
        assert {file.name: file.read_bytes() for file in (mnt / "lib/all:1/small").iterdir()} == FILES
        assert (mnt / "lib/all:1/deep/er/f").read_bytes() == b"deep"
        assert not status(mnt)["counters"]["faults"]


def test_an_image_in_one_repository_of_a_site(images: Published, tmp_path: Path) -> None:
    config = tmp_path / "site.toml"
    config.write_text(f'cache = "{tmp_path}/cache"\n[repositories."a.example"]\nurl = "{images.store}"\n')
    (tmp_path / "mnt").mkdir()
    lazyfs("mount", "--config", config, tmp_path / "mnt")
    try:
        path = tmp_path / "mnt/a.example/lib/all:1"
        assert json.loads(lazyfs("prefetch", path, "--json").stdout)["state"] == "done"
    finally:
        lazyfs("umount", tmp_path / "mnt")


def test_what_cannot_be_prefetched(images: Published, tmp_path: Path) -> None:
    mnt, cache = tmp_path / "mnt", tmp_path / "cache"
    with (
        serving(images.store) as url,
        mounted(url, mnt, "--cache", cache, "--patience", "1", "--trust", trust(images)),
    ):
        (mnt / "lib/all:1").stat()
        for image_name, said in (
            ("lib/none:1", "none:1"),
            (f"{mnt}/lib/all:1/deep", "no image or published tree"),
            (str(tmp_path), "in no mount"),
        ):
            done = lazyfs("prefetch", image_name, check=False)
            assert (done.returncode, done.stdout) == (2, ""), done
            assert said in done.stderr
    with mounted(url, mnt, "--cache", cache, "--patience", "1"):
        done = lazyfs("prefetch", f"{mnt}/lib/all:1", check=False)
        assert done.returncode == 1
        assert "goes on from there" in done.stderr
        done = lazyfs("prefetch", f"{mnt}/lib/all:1", "--json", check=False)
        assert (done.returncode, json.loads(done.stdout)["state"]) == (1, "failed")


def test_a_rate_is_a_number_of_bytes(images: Published, tmp_path: Path) -> None:
    mnt = tmp_path / "mnt"
    with (
        serving(images.store) as url,
        mounted(url, mnt, "--cache", tmp_path / "cache", "--trust", trust(images), "--prefetch-share", "10"),
    ):
        for rate, said in (("0", "would never end"), ("fast", "--limit-rate"), ("4096T", "1125899906842624")):
            done = lazyfs("prefetch", "lib/all:1", "--mount", mnt, "--limit-rate", rate, check=False)
            assert (done.returncode, done.stdout) == (2, ""), done
            assert said in done.stderr
        done = lazyfs("prefetch", "lib/all:1", "--mount", mnt, "--limit-rate", "1G", "--json")
        assert json.loads(done.stdout)["state"] == "done"
    wrong = lazyfs("mount", url, mnt, "--prefetch-share", "91", check=False)
    assert wrong.returncode == 2
    assert "prefetch_share is 91, but must be 1 to 90 percent" in wrong.stderr


def test_what_a_profile_lists_can_be_read_afterwards_without_a_server(
    images: Published, tmp_path: Path
) -> None:
    paths, name = tmp_path / "start.paths", "lib/all:1"
    paths.write_text("small/03\nsmall/07\n")
    mnt, options = tmp_path / "mnt", ("--cache", tmp_path / "cache", "--patience", "2")
    command = ("prefetch", name, "--mount", mnt, "--profile")
    with serving(images.store) as url, mounted(url, mnt, *options, "--trust", trust(images)):
        none = lazyfs(*command, "all", check=False)
        assert (none.returncode, none.stdout) == (2, "")
        assert "has no profile" in none.stderr
        lazyfs("profile", "import", name, paths, images.store, "--keys", images.keys)
        lazyfs("refresh", mnt)
        wrong = lazyfs(*command, "python3", check=False)
        assert (wrong.returncode, wrong.stdout) == (2, "")
        assert "lists no program by name, not python3" in wrong.stderr
        done = json.loads(lazyfs(*command, "all", "--json").stdout)
        assert done["state"] == "done"
        assert 0 < done["here_bytes"] == done["bytes"] < len(LARGE)
    with mounted(url, mnt, *options):
        assert all((mnt / name / "small" / file).read_bytes() == FILES[file] for file in ("03", "07"))
        with pytest.raises(OSError, match="Input/output"):
            (mnt / name / "large").read_bytes()
