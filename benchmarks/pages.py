"""Documents that quote results in blocks between two comments, filled from the committed tables only.

<!-- begin startup.md -->
...
<!-- end startup.md -->
"""

import re
from pathlib import Path
from typing import Final

from benchmarks import front

PAGES: Final = ("README.md", "docs/performance.md", "docs/site.md")
_BLOCK: Final = re.compile(r"(<!-- begin (?P<name>[\w-]+\.md) -->\n).*?(<!-- end (?P=name) -->)", re.DOTALL)


def quote(text: str, results: Path) -> str:
    """Returns `text` with each block filled from the table that the block names. If there is no such table,
    the block is left empty."""

    def fill(block: re.Match[str]) -> str:
        table = results / block["name"]
        return f"{block[1]}{table.read_text() if table.is_file() else ''}{block[3]}"

    return _BLOCK.sub(fill, text)


def refresh(checkout: Path) -> None:
    """Updates the blocks in all documents from benchmarks/results, and the picture of the front page."""
    front.write(checkout / "benchmarks/results")
    for name in PAGES:
        page = checkout / name
        if page.is_file():
            page.write_text(quote(page.read_text(), checkout / "benchmarks/results"))
