"""The pages of the status site: HTML that needs no script but for search and sorting, Atom, JSON."""

from datetime import UTC, datetime
from importlib import resources
from typing import Any
from urllib.parse import quote

import jinja2
import msgspec

from lazyfs.core.byte_size import shown_size
from lazyfs.core.printable import escaped
from lazyfs.sync.conditions import MEANINGS
from lazyfs.sync.site.document import StatusDocument, schema

FEED_EVENTS = 100
SHORT = 12
"""Hex digits of a digest that a page shows."""


def pages(status: StatusDocument) -> dict[str, bytes]:
    """Returns the files of the site: path -> content."""
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
        "rfc3339": _rfc3339,
        "size": shown_size,
        "short": _short,
        "anchor": lambda place: quote(place, safe="/:@"),
    }
    values: dict[str, Any] = {"status": status, "meanings": MEANINGS}
    places = {image.image for image in status.images}
    owners = sorted({owner for image in status.images for owner in image.owners})
    files = {
        "index.html": environment.get_template("index.html").render(**values, owners=owners),
        "lists.html": environment.get_template("lists.html").render(**values),
        "events.html": environment.get_template("events.html").render(**values, places=places),
        "feed.atom": _feed(environment, status, ""),
        **{f"owners/{owner}.atom": _feed(environment, status, owner) for owner in owners},
    }
    made = {path: text.encode("utf-8", "backslashreplace") for path, text in files.items()}
    for name in ("site.css", "site.js"):
        made[name] = resources.files("lazyfs.sync.site").joinpath("templates", name).read_bytes()
    made["status.json"] = msgspec.json.encode(status) + b"\n"
    made["status.schema.json"] = schema()
    return made


def _feed(environment: jinja2.Environment, status: StatusDocument, owner: str) -> str:
    events = [event for event in status.events if not owner or owner in event.owners][:FEED_EVENTS]
    return environment.get_template("feed.atom").render(status=status, events=events, owner=owner)


def _finalized(value: object) -> object:
    """Returns a value as a page shows it: in names from strangers, unprintable characters are escaped."""
    return escaped(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _moment(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC" if seconds else ""


def _rfc3339(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:SHORT]
