"""The status site of the service with 60 images in headless Chromium, on a phone and on a wide screen:
nothing overlaps or is cut, search, sorting and links work by mouse and keyboard, and axe-core finds no
serious fault."""

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lazyfs.store.web_files import DirectoryFiles
from lazyfs.sync.event_file import append_events, latest_events
from lazyfs.sync.quotas import QuotaUse
from lazyfs.sync.site.document import document, public_document
from lazyfs.sync.site.pages import pages
from lazyfs.sync.site.write import write_site
from lazyfs.sync.state import AcknowledgedState, ImageState, State, WisherState
from tests.support.browser import Browser, Page, chromium
from tests.support.service import built
from tests.support.service_world import DEAD, HUB, SITE, service_world, site_of

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools/npm"
LAYOUT = Path(__file__).parents[1] / "support/page_layout.js"
PAGES = ("index.html", "events.html", "lists.html", "public/index.html")
WIDTHS = (390, 1400)
LONG = f"{HUB}/" + "x" * 100 + "/" + "y" * 100 + ":" + "z" * 100
pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes a status site with images in every condition; returns its directory."""
    directory = tmp_path_factory.mktemp("site")
    with service_world(directory / "world") as world:
        service = site_of(world, directory / "service")
        service.settings = msgspec.structs.replace(service.settings, grace_hours=48.0)
        world.lists["hub.yaml"] += [f"{DEAD}/no/one:1", f"{DEAD}/no/two:*", "a line that is none"]
        append_events(str(service.status), service.run(world.write_lists(service.directory)).events)
        stale = f"{SITE}/team/app0:0"
        world.put(stale, built("moved to a damaged layer"), seen=False)
        world.spoil(stale)
        world.delete(f"{SITE}/team/app1:1")
        append_events(str(service.status), service.run(world.write_lists(service.directory)).events)
    state = service.state()
    waiting(state)
    made = document(state, latest_events(str(service.status), 500), int(service.clock.timestamp()))
    assert len(made.images) >= 60
    assert all(made.counts.values()), "an image in each condition"
    write_site(DirectoryFiles(str(directory / "pages")), pages(made))
    write_site(
        DirectoryFiles(str(directory / "pages/public")), pages(public_document(made, state), public=True)
    )
    return directory / "pages"


def waiting(state: State) -> None:
    """Adds a waiting image and a failed one to the state, with the longest names and messages allowed, an
    acknowledgement and quotas."""
    wishes = [WisherState("https://lists.example/" + "w" * 150, 12, LONG, "o" * 60)]
    state.images[LONG] = ImageState(wishes=wishes)
    known = AcknowledgedState("2026-12-31", "n" * 60, "r" * 200)
    state.images[f"{SITE}/team/long:1"] = ImageState(
        error="e" * 400, failures=3, failed=5, wishes=wishes, acknowledged=known
    )
    state.quotas = {"o" * 60: QuotaUse(99_999, 1 << 49, 100_000, 1 << 50), "none-yet": QuotaUse(0, 0)}


@contextmanager
def served(directory: Path) -> Iterator[str]:
    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(directory))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def url(site: Path) -> Iterator[str]:
    with served(site) as url:
        yield url


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(params=WIDTHS)
def page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    """Yields a browser page whose width is the parameter. Asserts at the end that the console of the page has
    shown no error."""
    with browser.page(request.param) as page:
        yield page
        assert page.complaints() == []


@pytest.mark.parametrize("name", PAGES)
def test_nothing_overlaps_or_is_cut(name: str, page: Page, url: str, tmp_path: Path) -> None:
    page.open(f"{url}/{name}")
    page.run(LAYOUT.read_text())
    found = page.run("layoutFaults()")
    page.screenshot(tmp_path / "page.png")
    assert page.run("shownTexts()") > 10
    assert found == [], f"see {tmp_path}/page.png"


@pytest.mark.parametrize("colors", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_no_serious_fault(name: str, colors: str, page: Page, url: str) -> None:
    axe = TOOLS / "node_modules/axe-core/axe.min.js"
    assert axe.exists(), "npm ci --prefix tools/npm, as tools/test --long does"
    page.prefer_colors(colors)
    page.open(f"{url}/{name}")
    page.run(axe.read_text())
    found = page.run("axe.run().then(({violations, passes}) => ({violations, passes: passes.length}))")
    assert found["passes"] > 15
    assert [
        (one["id"], one["impact"], one["nodes"][0]["html"])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ] == []


def shown(page: Page) -> list[str]:
    """Returns the images that the page shows, in order."""
    rows = "[...document.querySelectorAll('tbody tr')].filter((row) => row.offsetHeight)"
    found: list[str] = page.run(f"{rows}.map((row) => row.id)")
    return found


def test_search(page: Page, url: str) -> None:
    page.open(f"{url}/index.html")
    everything = shown(page)
    page.click("#search")
    page.type("private.example APP1")
    wanted = [name for name in everything if name.startswith("private.example") and "app1" in name]
    assert wanted
    assert shown(page) == wanted
    assert page.run("document.querySelector('#found').textContent") == f"{len(wanted)} of {len(everything)}"
    for _ in range(len("private.example APP1")):
        page.press("Backspace")
    assert shown(page) == everything
    page.type("no such image")
    assert shown(page) == []


def test_sorting_by_mouse_and_by_keys(page: Page, url: str) -> None:
    page.open(f"{url}/index.html")
    by_name = shown(page)
    cells = "[...document.querySelectorAll('tbody tr')].map((row) => [row.id, +row.cells[4].dataset.sort])"
    sizes = dict(page.run(cells))
    page.click("thead th:nth-child(5) button")
    assert [sizes[name] for name in shown(page)] == sorted(sizes.values())
    assert (
        page.run("document.querySelector('thead th:nth-child(5)').getAttribute('aria-sort')") == "ascending"
    )
    page.press("Enter", "\r")
    assert [sizes[name] for name in shown(page)] == sorted(sizes.values(), reverse=True)
    for _ in range(10):
        page.press("Tab")
        if page.run("document.activeElement.textContent") == "Wished by":
            break
    page.press("Enter", "\r")
    assert page.run("document.querySelector('[aria-sort]').textContent") == "Wished by"
    page.click("thead th:nth-child(1) button")
    order = page.run(f"{json.dumps(by_name)}.sort(new Intl.Collator(undefined, {{numeric: true}}).compare)")
    assert shown(page) == order


def test_links(page: Page, url: str) -> None:
    for name in PAGES:
        page.open(f"{url}/{name}")
        broken = page.run(
            "Promise.all([...new Set([...document.links].map((one) => one.href.split('#')[0]))]"
            ".map((one) => fetch(one).then((answer) => answer.ok ? '' : one)))"
            ".then((all) => all.filter(Boolean))"
        )
        assert broken == []
    page.open(f"{url}/events.html")
    page.click("ol.events a")
    page.wait_for("document.querySelector('tr:target')")
    place = page.run("document.querySelector('tr:target').id")
    assert page.run("decodeURIComponent(location.hash)") == f"#{place}"
    box = page.run("document.querySelector('tr:target').getBoundingClientRect().top")
    assert -1 < box < 900, "the browser has gone to the image's row"  # it scrolls by whole pixels


def test_without_scripts(page: Page, url: str) -> None:
    page.scripts(on=False)
    page.open(f"{url}/index.html")
    page.scripts(on=True)
    assert len(shown(page)) >= 60
    assert page.run("document.querySelector('form.search').offsetHeight") == 0
    assert page.run("document.querySelector('thead button')") is None


def test_the_json_is_valid_by_the_published_schema(site: Path) -> None:
    assert (TOOLS / "node_modules/ajv").exists(), "npm ci --prefix tools/npm, as tools/test --long does"
    program = """
const Ajv = require("ajv/dist/2020");
const { readFileSync } = require("fs");
const [schema, ...documents] = process.argv.slice(1).map((path) => JSON.parse(readFileSync(path)));
const check = new Ajv({ strict: false, allErrors: true }).compile(schema);
console.log(JSON.stringify(documents.map((one) => check(one) ? [] : check.errors)));
"""
    wrong = json.loads((site / "status.json").read_bytes())
    wrong["images"][0]["condition"] = 5
    (site / "wrong.json").write_text(json.dumps(wrong))
    done = subprocess.run(
        ["node", "-e", program, site / "status.schema.json", site / "status.json", site / "wrong.json"],
        cwd=TOOLS,
        capture_output=True,
        check=True,
        text=True,
    )
    right, faults = json.loads(done.stdout)
    assert right == []
    assert [fault["instancePath"] for fault in faults] == ["/images/0/condition"]
