import os
import re
from pathlib import Path

from lazyfs.demo.files import PACKAGES, interpreter, layers, libraries, path_in_image, tree, with_links


def test_a_path_brings_the_links_that_lead_to_it(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/x.so.1").touch()
    (tmp_path / "usr/lib/x.so").symlink_to("x.so.1")
    (tmp_path / "lib").symlink_to("usr/lib")
    found = [os.path.relpath(path, tmp_path) for path in with_links(f"{tmp_path}/lib/x.so")]
    assert found == ["lib", "usr/lib/x.so", "usr/lib/x.so.1"]


def test_a_tree_leaves_out_directories_by_name_and_keeps_links(tmp_path: Path) -> None:
    for name in ("a/test/no", "a/yes", "b"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "directory-link").symlink_to("a")
    found = {os.path.relpath(path, tmp_path) for path in tree(str(tmp_path), re.compile(r"^test$"))}
    assert found == {"a/yes", "b", "directory-link"}


def test_the_interpreter_comes_with_its_loader_and_libc() -> None:
    names = {os.path.basename(path) for path in libraries([interpreter()])}
    assert "libc.so.6" in names
    assert any(name.startswith("ld-linux") for name in names)


def test_no_path_is_in_two_layers() -> None:
    found = [paths for _, paths in layers()]
    assert len(set.union(*found)) == sum(map(len, found))
    assert interpreter() in found[0]
    assert any(path.endswith("/json/__init__.py") for path in found[1])
    assert not any("/test/" in path for path in found[1])


def test_packages_lie_where_no_runtime_puts_anything_else() -> None:
    standard, packages = (paths for _, paths in layers()[1:])
    assert all(path_in_image(path).startswith(f"{PACKAGES}/") for path in packages)
    assert {path_in_image(path) for path in packages} >= {f"{PACKAGES}/click/__init__.py"}
    assert all(path_in_image(path) == path for path in standard)
