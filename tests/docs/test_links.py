"""Every link in the documents that stays in this checkout leads to a file, and to a heading in it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("benchmarks/**/*.md")),
]
ELSEWHERE = re.compile(r"https?://|mailto:")


def without_code(page: Path) -> str:
    """Returns a page's text without fenced blocks and code spans, in which brackets are no links."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def links(text: str) -> list[str]:
    """Returns the targets of all links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", text)


def anchors(page: Path) -> set[str]:
    """Returns the anchors that GitHub gives the headings of a page. If several headings have the same text,
    the second one gets the suffix -1, the third one -2."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    found: dict[str, int] = {}
    for heading in re.findall(r"^#+ +(.*?) *$", text, re.MULTILINE):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found[name] = found.get(name, -1) + 1
    return {f"{name}-{count}" if count else name for name, last in found.items() for count in range(last + 1)}


def broken(page: Path, text: str) -> list[str]:
    """Returns the links in `text`, a part of the file `page`, that lead to no file or heading of this
    checkout."""
    found = []
    for link in links(text):
        if ELSEWHERE.match(link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        inside = target.resolve().is_relative_to(ROOT) and target.exists()
        if not inside or (anchor and (target.suffix != ".md" or anchor not in anchors(target))):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    assert broken(page, without_code(page)) == []


def test_the_readme_leads_to_every_document() -> None:
    """Users find a page in docs/ only if the README links to it."""
    readme = ROOT / "README.md"
    linked = {link.partition("#")[0] for link in links(readme.read_text())}
    assert {str(page.relative_to(ROOT)) for page in ROOT.glob("docs/*.md")} <= linked


def test_the_readme_is_read_in_five_minutes() -> None:
    """At 250 words a minute. Comments and the targets of links are not counted."""
    text = re.sub(r"<!--.*?-->|\]\([^)]*\)", " ", (ROOT / "README.md").read_text())
    assert len(re.findall(r"[A-Za-z][\w'-]*", text)) <= 1250


@pytest.mark.parametrize(
    "link", ["docs/nowhere.md", "docs/install.md#nowhere", "#nowhere", "../README.md", "LICENSE#licence"]
)
def test_a_link_that_leads_nowhere_is_noticed(link: str) -> None:
    readme = ROOT / "README.md"
    assert broken(readme, f"see [there]({link}) and [here](docs/install.md#autofs)") == [link]


def test_headings_get_the_names_that_github_gives_them(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# `lazyfs run` itself\n## A, b & c\n## A, b & c\n```sh\n# no heading\n```\n### [x](y.md) twice\n"
    )
    assert anchors(page) == {"lazyfs-run-itself", "a-b--c", "a-b--c-1", "x-twice"}
