"""The figures in the documents equal those in the committed results."""

import json
from pathlib import Path

from benchmarks.pages import PAGES, quote

CHECKOUT = Path(__file__).parents[2]
RESULTS = CHECKOUT / "benchmarks/results"


def test_a_block_is_filled_from_the_table_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "one.md").write_text("| 1 |\n")
    page = "a\n{}old\n{}b\n{}old\n{}"
    comments = [f"<!-- {edge} {name}.md -->\n" for name in ("one", "two") for edge in ("begin", "end")]
    assert quote(page.format(*comments), tmp_path) == "a\n{}| 1 |\n{}b\n{}{}".format(*comments)


def test_documents_quote_the_committed_tables() -> None:
    for name in PAGES:
        page = (CHECKOUT / name).read_text()
        assert quote(page, RESULTS) == page, f"{name}: run tools/bench, or benchmarks.pages.refresh"


def test_every_committed_result_names_its_machine_and_has_its_table() -> None:
    results = list(RESULTS.glob("*.json"))
    assert results
    for result in results:
        facts = json.loads(result.read_text())["facts"]
        assert facts["cpu"]
        assert facts["commit"]
        assert result.with_suffix(".md").is_file(), result.name
