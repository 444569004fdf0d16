import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.path_in_image import read, resolve


@pytest.fixture
def root(tmp_path: Path) -> str:
    for directory in ("run", "usr/bin", "var", "etc"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "etc/passwd").write_text("image")
    for name, target in {
        "bin": "usr/bin",
        "var/run": "/run",
        "up": "../../../../etc",
        "loop": "loop",
        "host": "/etc/passwd",
        "dangling": "/nowhere/deep",
    }.items():
        (tmp_path / name).symlink_to(target)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/", ("/", "")),
        ("/bin/sh", ("/usr/bin", "sh")),
        ("/var/run/a/b", ("/run", "a/b")),
        ("/up/passwd", ("/etc/passwd", "")),
        ("/../../etc/passwd", ("/etc/passwd", "")),
        ("/host", ("/etc/passwd", "")),
        ("/dangling/x", ("/", "nowhere/deep/x")),
    ],
)
def test_links_are_followed_inside_the_root(root: str, path: str, found: tuple[str, str]) -> None:
    assert resolve(root, path) == found


@pytest.mark.parametrize("path", ["/loop", "/etc/passwd/x", "/missing/../etc"])
def test_a_path_that_leads_nowhere_is_named(root: str, path: str) -> None:
    with pytest.raises(UsageError, match=path):
        resolve(root, path)


def test_a_link_to_the_hosts_file_reads_the_images(root: str) -> None:
    assert read(root, "/host", 5) == b"image"
    assert read(root, "/etc", 5) is None
    assert read(root, "/etc/shadow", 5) is None


_PARTS = st.sampled_from(["..", ".", "bin", "var", "run", "up", "host", "dangling", "etc", "passwd", "new"])


@given(parts=st.lists(_PARTS, max_size=8))
def test_what_is_found_is_below_the_root_and_has_no_link_in_it(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    top = tmp_path_factory.mktemp("root")
    for name, target in {"bin": "../..", "var": "/..", "up": "../../etc", "host": "/", "etc": "bin"}.items():
        (top / name).symlink_to(target)
    (top / "run").mkdir()
    try:
        found, missing = resolve(str(top), "/" + "/".join(parts))
    except UsageError:
        return
    outside = str(top) + found
    assert os.path.realpath(outside) == os.path.normpath(outside)
    assert ".." not in found.split("/") + missing.split("/")
    assert not missing or not os.path.lexists(os.path.join(outside, missing.split("/")[0]))
