"""Failures that the operator acknowledges until a date. The exit code and the report distinguish them from
new failures."""

import re
from datetime import date, timedelta
from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.core.wishlist.patterns import stars
from lazyfs.sync.acknowledged import Acknowledged, Acknowledgement
from lazyfs.sync.report import Report
from lazyfs.sync.settings import read_settings
from lazyfs.sync.state import AcknowledgedState
from tests.support.cli import lazyfs, new_repository
from tests.support.fake_registry import FakeRegistry
from tests.support.service import ServiceSite, built

TODAY = date(2026, 1, 1)


def known(*failures: str, until: date = TODAY) -> Acknowledged:
    given = [Acknowledgement(one, stars(one), until) for one in failures]
    return Acknowledged(given, lambda: TODAY)


def trouble(report: Report) -> list[tuple[str, bool, str]]:
    return [(event.image, event.new, event.acknowledged) for event in report.events if event.is_trouble]


def test_a_failure_that_is_acknowledged_is_told_and_does_not_make_a_run_red(
    site: ServiceSite, registry: FakeRegistry
) -> None:
    registry.add(built("1"), "1")
    site.wish("r.example/team/app:1", "r.example/team/app:bad")
    assert site.run().exit_code == 1
    report = site.run(acknowledged=known("r.example/team/app:b*"))
    assert report.exit_code == 0
    assert trouble(report) == [("r.example/team/app:bad", False, "2026-01-01")]
    site.wish("r.example/team/app:1", "r.example/team/app:bad", "r.example/team/app:worse")
    report = site.run(acknowledged=known("r.example/team/app:bad"))
    assert report.exit_code == 1
    assert ("r.example/team/app:worse", True, "") in trouble(report)


def test_a_run_in_which_only_acknowledged_things_fail_is_green(site: ServiceSite) -> None:
    site.wish("r.example/team/app:bad")
    assert site.run().exit_code == 2
    assert site.run(acknowledged=known("r.example/team/app:bad")).exit_code == 0


def test_an_acknowledgement_ends_with_its_day_and_that_is_said(site: ServiceSite) -> None:
    site.wish("r.example/team/app:bad")
    report = site.run(acknowledged=known("r.example/team/app:bad", until=date(2025, 12, 31)))
    assert report.exit_code == 2
    assert any("team/app:bad has ended on 2025-12-31" in notice for notice in report.notices)


def test_wishes_and_lists_can_be_acknowledged_too(site: ServiceSite, registry: FakeRegistry) -> None:
    registry.tag_list = b"<html>"
    site.list.write_text("version: 1\ninput:\n  - 'r.example/team/app:*'\n  - a bad line\n")
    first = site.run()
    assert (first.exit_code, first.bad_lists) == (2, 1)
    assert [new for _, new, _ in trouble(first)] == [True]
    report = site.run(acknowledged=known(str(site.list)))
    assert report.exit_code == 0, "the list's own faults, and those of its wishes"
    assert [new for _, new, _ in trouble(report)] == [False]
    by_wish = site.run(acknowledged=known("r.example/team/app:*"))
    assert (by_wish.exit_code, by_wish.bad_lists) == (2, 1)
    assert trouble(by_wish)[0][2] == "2026-01-01"


def test_the_state_notes_who_has_acknowledged_what_as_long_as_it_fails(
    site: ServiceSite, registry: FakeRegistry
) -> None:
    site.list.write_text("lazyfs: 1\nimages:\n  - 'r.example/team/app:1'\n  - {no: image}\n")
    given = [
        Acknowledgement("r.example/*", stars("r.example/*"), TODAY, "anna", "ticket 4711"),
        Acknowledgement("*app:1", stars("*app:1"), date(2026, 2, 1), "berta"),
        Acknowledgement("*app:*", stars("*app:*"), date(2025, 12, 31), "charly"),
        Acknowledgement(str(site.list), stars(str(site.list)), TODAY),
    ]
    known = Acknowledged(given, lambda: TODAY)
    site.run(acknowledged=known)
    state = site.state()
    image = state.images["r.example/team/app:1"]
    assert image.acknowledged == AcknowledgedState("2026-02-01", "berta"), "the one that holds the longest"
    assert state.lists[str(site.list)].acknowledged == AcknowledgedState("2026-01-01")
    site.run(acknowledged=Acknowledged(given[:1], lambda: TODAY))
    image = site.state().images["r.example/team/app:1"]
    assert image.acknowledged is not None
    assert image.acknowledged.text == "acknowledged until 2026-01-01 by anna: ticket 4711"
    site.run()
    assert site.state().images["r.example/team/app:1"].acknowledged is None, "it was taken back"
    registry.add(built("1"), "1")
    site.wish("r.example/team/app:1")
    site.clock += timedelta(days=1)
    site.run(acknowledged=known)
    assert site.state().images["r.example/team/app:1"].acknowledged is None, "nothing fails"
    assert site.state().lists[str(site.list)].acknowledged is None


def test_a_wish_that_failed_is_new_again_after_it_was_well(site: ServiceSite, registry: FakeRegistry) -> None:
    registry.add(built("1"), "1")
    site.wish("r.example/team/app:*")
    for page, new in ((b"<html>", [True]), (b"<html>", [False]), (None, []), (b"<html>", [True])):
        registry.tag_list = page
        assert [new for _, new, _ in trouble(site.run())] == new


def test_the_command_reads_acknowledgements_and_says_what_is_known(
    tmp_path: Path, registry: FakeRegistry
) -> None:
    new_repository(tmp_path)
    registry.add(built("1"), "1")
    (tmp_path / "list.yaml").write_text("input: ['r.example/team/app:1', 'r.example/team/app:bad']\n")
    config = tmp_path / "service.toml"
    place = f'[registries."r.example"]\naddress = "{registry.host}"\nplain-http = true\n'
    arguments = [
        "sync", str(tmp_path / "list.yaml"), str(tmp_path / "store"), "--keys", str(tmp_path / "keys"),
        "--config", str(config), "--status-dir", str(tmp_path / "status"),
    ]  # fmt: skip
    config.write_text(place)
    first = lazyfs(*arguments, check=False)
    assert first.returncode == 1
    assert "failed r.example/team/app:bad:" in first.stdout
    assert "(1 new, 0 acknowledged)" in first.stdout
    again = lazyfs(*arguments, check=False)
    assert "failed r.example/team/app:bad (as before):" in again.stdout
    assert "(0 new, 0 acknowledged)" in again.stdout
    config.write_text(f'{place}[[acknowledged]]\nfailure = "r.example/team/app:bad"\nuntil = 2999-12-31\n')
    known = lazyfs(*arguments)
    assert "failed r.example/team/app:bad (acknowledged until 2999-12-31):" in known.stdout
    assert "(0 new, 1 acknowledged)" in known.stdout
    for text, said in (
        ("failure = '*'\nuntil = 2999-12-31", r"acknowledged[1]: failure is empty, or * alone"),
        ("failure = 'a'\nuntil = 'soon'", "acknowledged"),
        ("failure = 'a'", "until"),
    ):
        config.write_text(f"{place}[[acknowledged]]\n{text}\n")
        with pytest.raises(UsageError, match=re.escape(said)):
            read_settings(str(config))
