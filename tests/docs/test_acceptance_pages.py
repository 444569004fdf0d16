"""The tests and benchmarks that the pages about acceptance name exist."""

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs/acceptance.md", *sorted((ROOT / "docs/acceptance").glob("*.md"))]


@functools.cache
def functions_of(file: Path) -> frozenset[str]:
    """Returns the names of the functions at the top level of a test module."""
    found = ast.parse(file.read_text()).body
    return frozenset(one.name for one in found if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    named = re.findall(r"(tests/[\w/]+\.py)::(\w+)", text)
    assert [(file, test) for file, test in named if test not in functions_of(ROOT / file)] == []
    benchmarks = set(re.findall(r"python -m benchmarks\.(\w+)", text))
    assert [name for name in benchmarks if not (ROOT / "benchmarks" / name / "__main__.py").is_file()] == []


def test_the_page_of_packs_and_profiles_names_a_test_or_a_benchmark_for_each_promise() -> None:
    text = (ROOT / "docs/acceptance/packs-and-profiles.md").read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if row[0] != "| promise"]
    assert len(rows) > 30
    for promise, shown, tier, bound in rows:
        assert "::test_" in shown or "python -m benchmarks." in shown or "that table" in shown, promise
        assert ("ordinary" in tier or "long" in tier) == ("::test_" in shown), promise
        assert "asserted" in bound or "printed" in bound, promise
