"""A hook of mkdocs (mkdocs.yml): the README is the site's front page, and the tables of benchmarks/results
are pages. Both lie outside docs/, where readers of the repository expect them."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

CHECKOUT = Path(__file__).parents[2]
RESULTS = CHECKOUT / "benchmarks/results"
FROM_README = {"docs/": "", "benchmarks/results/": "results/"}
"""Beginning of a link in the checkout -> in the site."""
FROM_PAGES = {
    "../benchmarks/results/": "results/",
    "../README.md": "index.md",
    "../CHANGELOG.md": "CHANGELOG.md",
}


def on_files(files: Files, config: Any) -> Files:
    """Adds the files that lie outside docs/."""
    outside = {name: CHECKOUT / name for name in ("CHANGELOG.md", "LICENSE")}
    outside["index.md"] = CHECKOUT / "README.md"
    outside |= {f"results/{path.name}": path for path in RESULTS.iterdir() if path.suffix in (".md", ".svg")}
    for uri, path in sorted(outside.items()):
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Returns a page's text with each link out of docs/ turned to where the site has the file."""
    turned = FROM_README if page.file.src_uri == "index.md" else FROM_PAGES
    for begin, there in turned.items():
        markdown = markdown.replace(f"]({begin}", f"]({there}")
    return markdown


def on_page_content(html: str, **_: Any) -> str:
    """Returns a page's HTML with bars in place of the escaped ones that tables hold."""
    return re.sub(r"<t([dh])\b.*?</t\1>", lambda cell: cell[0].replace("\\|", "|"), html, flags=re.DOTALL)
