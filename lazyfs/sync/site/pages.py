"""The pages of the status site: HTML, Atom and JSON. Scripts are needed only for search and sorting."""

from importlib import resources
from typing import Any
from urllib.parse import quote

import jinja2
import msgspec

from lazyfs.core.byte_size import shown_size
from lazyfs.core.digest import sha256
from lazyfs.core.moments import minute, rfc3339
from lazyfs.core.printable import escaped
from lazyfs.sync.conditions import MEANINGS
from lazyfs.sync.report import Event
from lazyfs.sync.site.document import StatusDocument, schema

FEED_EVENTS = 100
LONGEST_NAME = 240
"""The largest number of bytes of a file's name, before its suffix: the name of a registry's repository and
the tag together may have more than 255."""
SHORT = 12
"""The number of hex digits, from the beginning of a digest, that a page shows."""


def pages(status: StatusDocument, *, public: bool = False) -> dict[str, bytes]:
    """Returns the files of the site: path -> content. `public`: True to leave out the pages and columns for
    which a public status has no data."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lazyfs.sync.site"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "moment": _moment,
        "rfc3339": rfc3339,
        "size": shown_size,
        "short": _short,
        "feed": lambda place: quote(feed_of(place), safe="/:@"),
        "anchor": lambda place: quote(place, safe="/:@"),
    }
    values: dict[str, Any] = {"status": status, "meanings": MEANINGS, "public": public}
    places = {image.image for image in status.images}
    owners = sorted({owner for image in status.images for owner in image.owners} | status.quotas.keys())
    files = {
        "index.html": environment.get_template("index.html").render(**values, owners=owners),
        "lists.html": environment.get_template("lists.html").render(**values),
        "events.html": environment.get_template("events.html").render(**values, places=places),
        **_feeds(environment, status, owners),
    }
    if public:
        del files["lists.html"]
    made = {path: text.encode("utf-8", "backslashreplace") for path, text in files.items()}
    for name in ("site.css", "site.js"):
        made[name] = resources.files("lazyfs.sync.site").joinpath("templates", name).read_bytes()
    made["status.json"] = msgspec.json.encode(status) + b"\n"
    made["status.schema.json"] = schema()
    return made


def _feeds(environment: jinja2.Environment, status: StatusDocument, owners: list[str]) -> dict[str, str]:
    """Returns the feeds (path -> text): one of all events, one of each owner's events, one of each image's
    events."""
    by_image: dict[str, list[Event]] = {image.image: [] for image in status.images}
    for event in status.events:
        by_image.get(event.image, []).append(event)
    found = {"feed.atom": (status.events, "")}
    for owner in owners:
        found[f"owners/{owner}.atom"] = [one for one in status.events if owner in one.owners], owner
    for place, events in by_image.items():
        found[feed_of(place)] = events, place
    template = environment.get_template("feed.atom")
    return {
        path: template.render(
            status=status, events=events[:FEED_EVENTS], subject=subject, up="../" * path.count("/")
        )
        for path, (events, subject) in found.items()
    }


def feed_of(place: str) -> str:
    """Returns the path of an image's Atom feed: `feeds/PLACE.atom`. If the last part of the place is longer
    than LONGEST_NAME, its SHA-256 in hex stands for it."""
    folder, _, name = place.rpartition("/")
    if len(name) > LONGEST_NAME:
        name = sha256(name.encode()).hex()
    return f"feeds/{folder}/{name}.atom"


def _finalized(value: object) -> object:
    """Returns a value in the form for a page: unprintable characters are escaped, because strangers choose
    names."""
    return escaped(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _moment(seconds: int) -> str:
    return minute(seconds) if seconds else ""


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:SHORT]
