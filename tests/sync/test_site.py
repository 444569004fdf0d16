"""The status site: escaped pages with complete markup, feeds, JSON that follows its schema, files written
whole."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec

from lazyfs.store.web_files import DirectoryFiles
from lazyfs.sync.conditions import FAILED, LEAVING, PUBLISHED, STALE, WAITING, conditions
from lazyfs.sync.event_file import append_events, latest_events
from lazyfs.sync.quotas import QuotaUse
from lazyfs.sync.report import Event
from lazyfs.sync.site.document import StatusDocument, document, public_document
from lazyfs.sync.site.pages import pages
from lazyfs.sync.site.write import write_site
from lazyfs.sync.state import AcknowledgedState, ImageState, ListState, RunState, State, WisherState

HOSTILE = "<script>alert(1)</script>'\"&\u202e\x1b[31m"
NOW = 1_800_000_000
VOID = ("meta", "link", "input")


def state() -> State:
    wishes = [WisherState("list.yaml", 12, "r.example/a:*", "atlas"), WisherState(HOSTILE, 3, HOSTILE, "")]
    return State(
        repository="test.example.org",
        images={
            "r.example/a:1": ImageState(
                digest="sha256:" + "a" * 64, published=5, revision=7, size=9, wishes=wishes
            ),
            "r.example/b:1": ImageState(wishes=wishes),
            "r.example/c:1": ImageState(error=HOSTILE, failures=2, failed=3, next_try=NOW + 5, wishes=wishes),
            "r.example/d:1": ImageState(digest="sha256:" + "d" * 64, error="later", failures=1),
            "r.example/e:1": ImageState(digest="sha256:" + "e" * 64, gone=4),
            "r.example/f:1": ImageState(wishes=[WisherState("list.yaml", 13, "x", "cms@cern.ch")]),
        },
        lists={HOSTILE: ListState("cern", 3, 10, 5, [HOSTILE]), "list.yaml": ListState("", 0, 10, 0, [])},
        run=RunState(1, 2, 7, 1, 2, 3, 4),
    )


def events() -> list[Event]:
    return [
        Event(NOW, "failed", "r.example/c:1", reason=HOSTILE, owners=("atlas",)),
        Event(7, "failed", "list.yaml:13 r.example/x:*", reason="no such repository"),
        Event(5, "published", "r.example/a:1", digest="sha256:" + "a" * 64, owners=("cms@cern.ch",)),
    ]


class Markup(HTMLParser):
    """Checks that each opened element is closed. Collects ids, links and scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.scripts: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        fields = dict(attrs)
        self.ids += [value for value in [fields.get("id")] if value]
        self.links += [value for value in [fields.get("href")] if value]
        if tag == "script":
            self.scripts.append(fields.get("src"))
        assert not [name for name in fields if name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def made() -> dict[str, bytes]:
    return pages(document(state(), events(), NOW))


def test_every_page_has_whole_markup_and_shows_what_strangers_wrote_as_text() -> None:
    files = made()
    for name in ("index.html", "lists.html", "events.html"):
        text = files[name].decode()
        markup = Markup()
        markup.feed(text)
        markup.close()
        assert markup.open == []
        assert markup.scripts == ["site.js"]
        assert len(markup.ids) == len(set(markup.ids))
        assert "\u202e" not in text
        assert "\x1b" not in text
        for link in markup.links:
            path, _, anchor = link.partition("#")
            assert not path or link == "data:," or path in files or path.replace("%40", "@") in files, link
            if anchor and path in ("", "index.html") and anchor != "main":
                assert f'id="{anchor}"' in files["index.html"].decode()
    assert "&lt;script&gt;" in files["index.html"].decode()
    assert 'lang="en"' in files["index.html"].decode()


def test_conditions() -> None:
    found = {one.image[-3]: one for one in conditions(state().images)}
    assert {name: one.condition for name, one in found.items()} == {
        "a": PUBLISHED, "b": WAITING, "c": FAILED, "d": STALE, "e": LEAVING, "f": WAITING,
    }  # fmt: skip
    assert (found["b"].queued, found["f"].queued, found["a"].queued) == (1, 2, 0)
    assert found["a"].owners == ["atlas"]


def test_feeds_are_xml_and_an_owners_has_the_owners_events() -> None:
    files = made()
    atom = "{http://www.w3.org/2005/Atom}"

    def titles(name: str) -> list[str | None]:
        feed = ET.fromstring(files[name])
        assert feed.tag == f"{atom}feed"
        return [entry.findtext(f"{atom}title") for entry in feed.iter(f"{atom}entry")]

    wish = "failed list.yaml:13 r.example/x:*"
    assert titles("feed.atom") == ["failed r.example/c:1", wish, "published r.example/a:1"]
    assert titles("owners/atlas.atom") == ["failed r.example/c:1"]
    assert titles("owners/cms@cern.ch.atom") == ["published r.example/a:1"]
    assert titles("feeds/r.example/c:1.atom") == ["failed r.example/c:1"]
    assert titles("feeds/r.example/b:1.atom") == [], "a feed can be taken before anything happens"


def test_an_image_whose_name_no_file_can_have_has_a_feed(tmp_path: Path) -> None:
    place = f"r.example/{'a' * 200}:{'t' * 128}"
    files = pages(document(State(repository="t", images={place: ImageState()}), [], NOW))
    write_site(DirectoryFiles(str(tmp_path)), files)
    (feed,) = tmp_path.glob("feeds/**/*.atom")
    assert f'href="feeds/r.example/{feed.name}"' in files["index.html"].decode()


def test_the_json_is_what_its_schema_says() -> None:
    files = made()
    read = msgspec.json.decode(files["status.json"], type=StatusDocument, strict=True)
    assert read == document(state(), events(), NOW)
    schema: Any = json.loads(files["status.schema.json"])
    definitions = schema["$defs"]
    properties = definitions["StatusDocument"]["properties"]
    assert set(json.loads(files["status.json"])) == set(properties)
    for image in json.loads(files["status.json"])["images"]:
        assert set(image) <= set(definitions["ImageCondition"]["properties"])


def test_the_public_part_has_no_wishes_owners_and_private_images() -> None:
    known = state()
    known.images["r.example/secret:1"] = ImageState(digest="sha256:" + "b" * 64, private=True, wishes=[])
    happened = [*events(), Event(6, "published", "r.example/secret:1", owners=("atlas",))]
    whole = document(known, happened, NOW)
    files = pages(public_document(whole, known), public=True)
    assert {one.image for one in public_document(whole, known).images} == {
        "r.example/a:1", "r.example/d:1", "r.example/e:1",
    }  # fmt: skip
    assert "lists.html" not in files
    assert not [path for path in files if path.startswith("owners/")]
    for path, data in files.items():
        for word in ("atlas", "cms", "list.yaml", "r.example/secret", "lists.html", "Wished", "script&gt;"):
            assert path in ("site.css", "site.js") or word not in data.decode(), f"{word} in {path}"
    markup = Markup()
    markup.feed(files["index.html"].decode())
    markup.close()
    assert markup.open == []
    read = msgspec.json.decode(files["status.json"], type=StatusDocument, strict=True)
    assert read.counts[PUBLISHED] == 1


def test_who_has_acknowledged_what_and_the_use_of_quotas_are_shown_but_not_to_everybody() -> None:
    known = state()
    said = AcknowledgedState("2026-12-31", "anna", HOSTILE)
    known.images["r.example/c:1"].acknowledged = said
    known.images["r.example/d:1"].acknowledged = said
    known.lists[HOSTILE].acknowledged = AcknowledgedState("2026-11-30", "berta")
    known.quotas = {"atlas": QuotaUse(1, 9, 200, 500 << 30), "none-yet": QuotaUse(0, 0, 3)}
    whole = document(known, events(), NOW)
    files = {path: data.decode() for path, data in pages(whole).items()}
    assert files["index.html"].count("acknowledged until 2026-12-31 by anna: &lt;script&gt;") == 2
    assert "acknowledged until 2026-11-30 by berta" in files["lists.html"]
    assert "1 of 200 images, 9 B of 500.0 GiB" in files["index.html"]
    assert "0 of 3 images, 0 B" in files["index.html"]
    assert "owners/none-yet.atom" in files, "an owner without images has a feed too"
    read = msgspec.json.decode(files["status.json"], type=StatusDocument, strict=True)
    assert read == whole
    for path, data in pages(public_document(whole, known), public=True).items():
        for word in ("anna", "berta", "atlas", "none-yet", "of 200 images"):
            assert path in ("site.css", "site.js") or word not in data.decode(), f"{word} in {path}"


def test_the_style_leaves_no_color_to_chance() -> None:
    style = made()["site.css"].decode()
    used = set(re.findall(r"var\((--\w+)\)", style))
    assert used <= set(re.findall(r"(--\w+):", style))


def test_files_are_written_only_when_they_change_and_feeds_go_with_what_they_are_of(tmp_path: Path) -> None:
    site = tmp_path / "site"
    write_site(DirectoryFiles(str(site)), made())
    before = {path: path.stat().st_ino for path in site.rglob("*") if path.is_file()}
    assert {str(path.relative_to(site)) for path in before} == set(made())
    files = made()
    del files["owners/atlas.atom"], files["feeds/r.example/a:1.atom"]
    files["index.html"] += b"<!-- new -->"
    (site / "feeds/r.example/tmp12345678").write_text("left by a run that was killed")
    (site / "feeds/r.example/picture.png").write_text("somebody else's")
    write_site(DirectoryFiles(str(site)), files)
    after = {path: path.stat().st_ino for path in site.rglob("*") if path.is_file()}
    del after[site / "feeds/r.example/picture.png"]
    changed = {path.name for path in after if before[path] != after[path]}
    assert changed == {"index.html"}
    assert {path.name for path in set(before) - set(after)} == {"atlas.atom", "a:1.atom"}


def test_the_latest_events_are_read_from_the_end_of_their_file(tmp_path: Path) -> None:
    assert latest_events(str(tmp_path), 5) == []
    many = [Event(number, "published", f"r.example/a:{number}", reason="x" * 1000) for number in range(3000)]
    append_events(str(tmp_path), many[:1500])
    append_events(str(tmp_path), many[1500:])
    assert latest_events(str(tmp_path), 3) == many[:-4:-1]
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b'{"time": 1, "event"')  # the rest of the line is on its way
    assert latest_events(str(tmp_path), 2) == many[:-3:-1]
