"""mkdocs builds the documents as a site, without a warning, and renders them as GitHub does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [*sorted(ROOT.glob("docs/*.md")), README]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds the site. `strict` in mkdocs.yml makes every warning an error: dead links and anchors, and pages
    that the navigation leaves out."""
    made = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(made)]
    done = subprocess.run(build, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_has_its_headings_lists_and_tables(page: Path, site: Path) -> None:
    """Python-Markdown takes some things for text that GitHub takes for a list or a table: code in a list item
    with less than eight spaces, a table right below a line of text."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    written = [
        len(re.findall(pattern, text, re.MULTILINE))
        for pattern in (r"^#+ ", r"^(?:- |\d+\. )", r"^\|(?:[-: ]+\|)+$")
    ]
    shown = (
        (site / ("index.html" if page == README else f"{page.stem}.html")).read_text().split('role="main"')[1]
    )
    assert [len(re.findall(tag, shown)) for tag in (r"<h[1-6] id", "<li", "<table")] == written


def test_the_readme_is_the_front_page_and_leads_to_files_of_the_site(site: Path) -> None:
    front = (site / "index.html").read_text().split('role="main"')[1]
    targets = {link for link in re.findall(r'(?:href|src)="([^"#]+)', front) if "://" not in link}
    assert {"install.html", "coming-from-cvmfs.html", "CHANGELOG.html", "results/front.svg"} <= targets
    assert [link for link in targets if not (site / link).is_file()] == []


def test_a_bar_in_a_table_is_shown_without_its_backslash(site: Path) -> None:
    assert "lru|sieve" in (site / "mounting.html").read_text()


def test_the_site_asks_no_other_server(site: Path) -> None:
    """The pages load nothing from other servers: nodes without internet can show them, and no third party
    learns who reads them."""
    loaded = {
        link
        for page in site.glob("*.html")
        for link in re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(\w+:[^"]+)"', page.read_text())
    }
    assert loaded == set()
