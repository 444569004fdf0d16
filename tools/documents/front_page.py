"""A hook of mkdocs (mkdocs.yml): the README is the site's front page, and the tables of benchmarks/results
are pages. Both lie outside docs/, where readers of the repository expect them."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

CHECKOUT = Path(__file__).parents[2]
RESULTS = CHECKOUT / "benchmarks/results"
FROM_README = {"docs/": "", "benchmarks/results/": "results/"}
"""Prefix of a link in the README, as in the checkout -> the prefix of that link in the site."""
FROM_PAGES = {
    "../benchmarks/results/": "results/",
    "../README.md": "index.md",
    "../CHANGELOG.md": "CHANGELOG.md",
}


def on_files(files: Files, config: Any) -> Files:
    """Adds the files that lie outside docs/ to the site."""
    outside = {name: CHECKOUT / name for name in ("CHANGELOG.md", "LICENSE")}
    outside["index.md"] = CHECKOUT / "README.md"
    outside |= {f"results/{path.name}": path for path in RESULTS.iterdir() if path.suffix in (".md", ".svg")}
    for uri, path in sorted(outside.items()):
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Returns a page's text, in which the links to files outside docs/ lead to their places in the site."""
    turned = FROM_README if page.file.src_uri == "index.md" else FROM_PAGES
    for begin, there in turned.items():
        markdown = markdown.replace(f"]({begin}", f"]({there}")
    return markdown


def on_page_content(html: str, **_: Any) -> str:
    """Returns a page's HTML, with each escaped bar (`\\|`) in a table cell replaced by a plain bar."""
    return re.sub(r"<t([dh])\b.*?</t\1>", lambda cell: cell[0].replace("\\|", "|"), html, flags=re.DOTALL)
