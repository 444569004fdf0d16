"""The files, modules, classes and functions named in the documents exist."""

import ast
import functools
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("docs/*.md")), ROOT / "README.md"]
OF_CODE = [ROOT / "docs" / name for name in ("architecture.md", "cache.md", "where-to-add.md")]
"""The pages that name parts of the code."""
PLACEHOLDER = "NAME"
TOPS = ("lazyfs/", "cache/", "tests/", "benchmarks/", "tools/", "docs/")
NOT_IN_A_CHECKOUT = ("data/", "metadata/", "tmp/", "pins/", "index-aside/")
"""Folders inside a store or a cache, which the pages name too."""
OF_OTHERS = {"MDB_NOLOCK", "recently_deleted", "lazyfs_cache_on"}
"""Names that the pages use but the code does not define: a flag of LMDB, a function of Linux, and a
metric."""


@functools.cache
def files() -> frozenset[str]:
    """Returns the paths of all files, and of all folders with a slash at the end."""
    found = {
        path for top in TOPS for path in ROOT.joinpath(top).rglob("*") if "__pycache__" not in path.parts
    }
    found |= set(ROOT.glob("*.*"))
    return frozenset(f"{path.relative_to(ROOT)}{'/' if path.is_dir() else ''}" for path in found)


class Code:
    """The names that the modules define."""

    def __init__(self) -> None:
        self.modules: dict[str, set[str]] = {}
        """Dotted name of a module -> the names at its top level; for a package, also its modules."""
        self.members: dict[str, set[str]] = defaultdict(set)
        """Name of a class -> its methods, fields and attributes, and the names of its bases."""
        self.arguments: set[str] = set()
        for name in files():
            if name.endswith(".py") and name.startswith(("lazyfs/", "cache/", "tests/")):
                self._add(name)

    def _add(self, name: str) -> None:
        dotted = name.removeprefix("cache/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        package, _, last = dotted.rpartition(".")
        self.modules.setdefault(package, set()).add(last)
        tree = ast.parse((ROOT / name).read_text())
        names = self.modules.setdefault(dotted, set())
        names |= {name for statement in tree.body for name in defined(statement)}
        for each in ast.walk(tree):
            if isinstance(each, ast.arg):
                self.arguments.add(each.arg)
            elif isinstance(each, ast.ClassDef):
                self.members[each.name] |= {name for part in each.body for name in defined(part)}
                self.members[each.name] |= {base.id for base in each.bases if isinstance(base, ast.Name)}
                self.members[each.name] |= {
                    part.attr for part in ast.walk(each)
                    if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store)
                }  # fmt: skip

    @functools.cached_property
    def names(self) -> set[str]:
        """Returns every name in the code: of modules, their contents, class members, and arguments."""
        return self.arguments.union(*self.modules.values(), *self.members.values())

    def has(self, dotted: str) -> bool:
        """Returns True if something in the code has the name `package.module.Class.member`, of which the
        beginning may be left out."""
        first, *rest = dotted.split(".")
        if not rest:
            return first in self.names
        for prefix in ("", "lazyfs.", "lazyfs_cache."):
            for cut in range(len(rest), 0, -1):
                module = prefix + ".".join([first, *rest[: cut - 1]])
                if module in self.modules and rest[cut - 1] in self.modules[module]:
                    return self._leads(rest[cut - 1], rest[cut:])
        ends = [name for name in self.modules if name.endswith(f".{first}")]
        if any(rest[0] in self.modules[name] and self._leads(rest[0], rest[1:]) for name in ends):
            return True
        return self._leads(first, rest)

    def _leads(self, name: str, rest: list[str]) -> bool:
        if not rest:
            return True
        members = self.members.get(name, set())
        if rest[0] in members:
            return len(rest) == 1
        return any(self._leads(base, rest) for base in members if base in self.members and base != name)


def defined(statement: ast.stmt) -> set[str]:
    """Returns the names that a statement binds: functions, classes, variables and imports."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Assign):
        targets = (part for target in statement.targets for part in ast.walk(target))
        return {part.id for part in targets if isinstance(part, ast.Name)}
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return {statement.target.id}
    if isinstance(statement, ast.ImportFrom):
        return {alias.asname or alias.name for alias in statement.names}
    if isinstance(statement, ast.If):  # TYPE_CHECKING: names that are imported when they are first used
        return set().union(*map(defined, statement.body))
    return set()


def quoted(page: Path) -> list[str]:
    """Returns the texts in backticks, except fenced code blocks."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_names_exist(page: Path) -> None:
    words = re.findall(r"[\w./*-]+", page.read_text())
    named = {word.rstrip(".") for word in words if word.startswith(TOPS)}
    named = {word for word in named if PLACEHOLDER not in word and "*" not in word}
    missing = {name for name in named if name not in files() and f"{name.rstrip('/')}/" not in files()}
    assert not missing


@pytest.mark.parametrize("page", OF_CODE, ids=lambda page: page.name)
def test_the_parts_of_the_code_that_a_page_names_exist(page: Path) -> None:
    code = Code()
    missing = set()
    for text in quoted(page):
        name = re.sub(r"\(.*\)$", "", text)
        if PLACEHOLDER in name or name in OF_OTHERS or name.startswith(NOT_IN_A_CHECKOUT):
            continue
        if re.fullmatch(r"[\w/]+(/|\.py|\.md|\.toml)", name):
            exists = any(each == name or each.endswith(f"/{name}") for each in files())
        elif re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", name) and re.search(r"[A-Z_.]", name):
            exists = code.has(name)
        else:
            continue
        if not exists:
            missing.add(text)
    assert not missing
