"""Mishaps of similar services, from public reports. None of them damages the tree."""

import json
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ports import free_port
from lazyfs.core.errors import LazyfsError
from lazyfs.store.directory import DirectoryStore
from lazyfs.sync.event_file import append_events
from lazyfs.sync.settings import RegistrySettings
from lazyfs.sync.site.document import document
from lazyfs.sync.site.pages import pages
from tests.support.fake_registry import FakeRegistry, fake_registry
from tests.support.service import ServiceSite, built, config_of, events_of
from tests.support.tls import Authority

UNKNOWN = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'
NAME_UNKNOWN = b'{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known"}]}'
SIGN_IN = b"<html><body><h1>Sign in</h1></body></html>"
ANN = {"Basic YW5uOnJpZ2h0LWhvcnNl": "ann"}


@pytest.mark.parametrize(
    "fault",
    [
        (500, b"", None),
        (200, SIGN_IN, None),
        (200, b'{"name": "team/app", "tags": ["4", "5"', None),
        (200, b'{"name": "team/app", "tags": ["4", "5", "6"]}' + b" " * 200, 30),
        (401, b"", None),
        (403, SIGN_IN, None),
        (404, SIGN_IN, None),
        (404, NAME_UNKNOWN, None),
        (429, b"", None),
    ],
)
def test_a_listing_of_tags_that_breaks_on_its_third_page_proves_nothing(
    fault: tuple[int, bytes, int | None], site: ServiceSite, registry: FakeRegistry
) -> None:
    """If page 1 of the tags is found and page 3 is not, the repository has been moved or its server is
    broken."""
    registry.unknown_manifest = UNKNOWN
    for number in range(7):
        registry.add(built("same"), str(number))
    registry.page = 2
    site.wish("r.example/team/app:*")
    assert site.run().exit_code == 0
    registry.page_faults[3] = fault
    for tag in ("5", "6"):
        del registry.manifests[tag]
        registry.tags.remove(tag)
    registry.tags += ["7", "8"]
    report = site.run()
    assert report.count("removed") == 0
    assert report.count("failed") == 1
    assert len(site.images()) == 7
    registry.page_faults.clear()
    registry.tags = registry.tags[:5]
    assert events_of(site.run(), "removed") == ["r.example/team/app:5", "r.example/team/app:6"]


DATES: dict[str, Any] = {
    "1.9": "1970-01-01T00:00:00Z",
    "1.10": None,
    "1.2": "0001-01-01T00:00:00Z",
    "2": "2999-01-01T00:00:00Z",
    "3": "2025-12-01T00:00:00Z",
    "4": "2025-12-01T00:00:00+00:00",
    "latest": "not a date",
}
"""Tag -> creation date in the image, as real images state it: the epoch of reproducible builds, no date, Go's
zero time, the date of a wrong clock, the same second twice, and nonsense."""


@pytest.mark.parametrize(
    ("retention", "left"),
    [
        ("keep-last: 3, keep-by: created", ["2", "3", "4"]),
        ("keep-last: 5, keep-by: created", ["1.10", "1.9", "2", "3", "4"]),
        ("keep-last: 3", ["2", "3", "4"]),
        ("keep-last: 5", ["1.10", "1.9", "2", "3", "4"]),
        ("newer-than: 3w", ["1.10", "1.2", "1.9", "2", "latest"]),
    ],
)
def test_what_is_kept_is_equal_in_every_run_whatever_dates_images_state(
    retention: str, left: list[str], tmp_path: Path, registry: FakeRegistry
) -> None:
    chance = random.Random(17)
    for tag, created in DATES.items():
        registry.add(built(tag, created=created), tag)
    kept = []
    for number in range(3):
        site = ServiceSite(tmp_path / f"machine{number}", {"r.example": registry.host})
        site.list.write_text(f"lazyfs: 1\nimages: [{{image: 'r.example/team/app:*', {retention}}}]\n")
        tags = list(DATES)
        chance.shuffle(tags)
        registry.tag_list, registry.pages = json.dumps({"tags": tags}).encode(), 0
        chosen = events_of(site.run(dry_run=True), "published")
        kept.append(sorted(place.rpartition(":")[2] for place in chosen))
    assert kept == [left] * 3


def test_a_repository_that_has_become_private_is_published_no_more(
    site: ServiceSite, registry: FakeRegistry
) -> None:
    """If the service has an account, each publish checks whether the image could be read without it. Without
    the permission `publish-private`, such an image is refused."""
    first = built("public")
    registry.add(first, "1")
    site.wish("r.example/team/app:1", "r.example/team/app:2")
    site.run()
    registry.basic, registry.accounts = True, ANN
    site.log_in("r.example", "ann", "right-horse")
    allowed = site.registries["r.example"]
    site.registries["r.example"] = RegistrySettings(
        address=allowed.address, plain_http=True, username="ann", password_file=allowed.password_file
    )
    registry.add(built("secret"), "1")
    registry.add(built("secret too"), "2")
    report = site.run()
    assert len(events_of(report, "failed")) == 2
    assert all("publish-private" in event.reason for event in report.events)
    assert site.images() == {"r.example/team/app:1": config_of(first)}
    site.registries["r.example"] = allowed
    assert site.run().exit_code == 0
    assert len(site.images()) == 2


def test_leave_for_one_registry_is_none_for_another(tmp_path: Path, registry: FakeRegistry) -> None:
    with fake_registry() as other:
        for one in (registry, other):
            one.basic, one.accounts = True, ANN
            one.add(built("secret"), "1")
        site = ServiceSite(tmp_path / "site", {"r.example": registry.host, "other.example": other.host})
        site.log_in("r.example", "ann", "right-horse")
        site.log_in("other.example", "ann", "right-horse")
        settings = site.registries["other.example"]
        site.registries["other.example"] = RegistrySettings(
            address=settings.address, plain_http=True, username="ann", password_file=settings.password_file
        )
        site.wish("r.example/team/app:1", "other.example/team/app:1")
        report = site.run()
    assert list(site.images()) == ["r.example/team/app:1"]
    assert events_of(report, "failed") == ["other.example/team/app:1"]


@pytest.mark.parametrize(
    "text",
    [
        "r.example:\n  tls-verify: false\n  cert-dir: CERTS\n  images: {team/app: ['1']}\n",
        "version: 1\ninput: ['http://r.example/team/app:1']\n",
        "version: 1\ncreds:\n  - {registry: r.example, tls: disabled, hostname: EVIL, regcert: CERTS}\n"
        "sync:\n  - {source: 'r.example/team/app:1', target: 'EVIL/x:1', type: image}\n",
        "version: 1\ndefaults: {tls: insecure}\n"
        "sync:\n  - {source: 'r.example/team/app:1', target: 'x:1', type: image}\n",
    ],
    ids=["skopeo", "cern", "regsync", "regsync's defaults"],
)
def test_a_list_switches_no_protection_off_and_redirects_no_registry(text: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "a-stranger")
    with fake_registry(authority.server()) as registry, fake_registry() as evil:
        for one in (registry, evil):
            one.add(built("x"), "1")
        site = ServiceSite(tmp_path / "site", {})
        site.registries["r.example"] = RegistrySettings(address=registry.host)
        site.list.write_text(text.replace("EVIL", evil.host).replace("CERTS", str(authority.ca.parent)))
        report = site.run()
        assert registry.requests == evil.requests == []
    assert events_of(report, "failed") == ["r.example/team/app:1"]
    assert "its certificate is not trusted" in report.events[-1].reason


def test_a_signed_url_is_shown_nowhere(site: ServiceSite, registry: FakeRegistry) -> None:
    """A registry redirects to its storage with signed URLs, which give access to everyone who knows them."""
    with fake_registry() as storage:
        for place in (f"127.0.0.1:{free_port()}", storage.host):
            registry.storage = f"http://ann:pw@{place}/bucket?X-Amz-Signature=5e55c4e7&X-Amz-Key="
            registry.add(built(place), "1")
            site.wish("r.example/team/app:1")
            report = site.run()
            assert report.count("failed") == 1
            append_events(str(site.status), report.events)
            shown = repr(report) + "".join(site.told)
            shown += "".join(file.read_text() for file in site.status.glob("*.json*"))
            made = pages(document(site.state(), report.events, 1))
            shown += "".join(data.decode() for path, data in made.items() if not path.endswith(".js"))
            assert "r.example/team/app" in shown
            for secret in ("5e55c4e7", "X-Amz", "ann", "pw@"):
                assert secret not in shown, secret


def test_a_store_whose_clock_is_minutes_away_is_not_written(
    site: ServiceSite, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.add(built("1"), "1")
    site.wish("r.example/team/app:1")
    later = lambda _: (site.clock + timedelta(minutes=6)).timestamp()  # noqa: E731
    for kind in DirectoryStore.__subclasses__():
        monkeypatch.setattr(kind, "now", later)
    with pytest.raises(LazyfsError, match="clock"):
        site.run()
    assert site.images() == {}


def test_emptying_a_list_takes_a_word(site: ServiceSite, registry: FakeRegistry) -> None:
    registry.add(built("1"), "1")
    site.wish("r.example/team/app:1")
    site.run()
    site.list.write_text("version: 1\ninput: []\n")
    for _ in range(3):
        report = site.run()
        assert (report.count("removed"), report.bad_lists) == (0, 1)
    assert events_of(site.run([], forgotten=(str(site.list),)), "removed") == ["r.example/team/app:1"]
