"""A Python package is fetched as soon as its `__init__` is read."""

import pytest

from lazyfs.core.digest import sha256
from lazyfs.prefetch.python_packages import PACKS, PythonPackages
from lazyfs.vfs.siblings import siblings
from lazyfs.vfs.tree import Tree
from tests.support.images import Objects, image, live, number, packed, shown

COMPILED = "__init__.cpython-311.pyc"


def spread(objects: Objects, *names: str) -> dict[str, object]:
    """Returns name -> inode of files that each lie in a pack of their own. The content of a file is its
    name."""
    return {name: packed(objects, {name: name.encode()})[name] for name in names}


def holding() -> Tree:
    objects = Objects()
    package = spread(objects, "__init__.py", "a.py", "b.py") | {
        "__pycache__": spread(objects, COMPILED, "a.pyc"),
        "inner": spread(objects, "other.py"),
        "empty": b"",
    }
    wide = spread(objects, "__init__.py", *(f"m{at}.py" for at in range(PACKS)))
    spec = {"lib": {"pkg": package, "wide": wide, "plain": spread(objects, "x.py", "y.py")}}
    return shown(objects, live(objects, {"image": image(objects, spec)}))


def read(rule: PythonPackages, tree: Tree, path: str) -> set[bytes]:
    around = siblings(tree, number(tree, f"image/lib/{path}"))
    assert around is not None
    return {ref.digest for ref in rule.read(around)}


@pytest.mark.parametrize("path", ["pkg/__init__.py", f"pkg/__pycache__/{COMPILED}"])
def test_the_entry_of_a_package_brings_its_packs_once(path: str) -> None:
    tree, rule = holding(), PythonPackages()
    names = ("__init__.py", "a.py", "b.py", COMPILED, "a.pyc")
    assert read(rule, tree, "pkg/a.py") == set()
    assert read(rule, tree, path) == {sha256(name.encode()) for name in names}
    assert read(rule, tree, "pkg/__init__.py") == read(rule, tree, f"pkg/__pycache__/{COMPILED}") == set()


def test_other_directories_and_very_large_packages_bring_nothing() -> None:
    tree, rule = holding(), PythonPackages()
    assert read(rule, tree, "plain/x.py") == set()
    assert read(rule, tree, "wide/__init__.py") == set()
