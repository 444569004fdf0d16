"""Errors that nobody foresaw: one ends the image, wish, list or try that has met it, and no run and no
daemon. Failures of the store still end the run."""

import logging
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lazyfs.cli import listen
from lazyfs.core.oci.manifest import Platform
from lazyfs.core.oci.reference import parse
from lazyfs.images.registry.client import RegistryClient
from lazyfs.repository.leases import PublisherLease
from lazyfs.store import StoreConflict, open_store
from lazyfs.store.protocol import StoreError
from lazyfs.sync import conversion, plan
from lazyfs.sync.conversion import ImageJob, Surroundings, convert
from lazyfs.sync.lists import ListKeeper, load
from lazyfs.sync.plan import Planner
from lazyfs.sync.preparation import ImagePreparer, Job
from lazyfs.sync.registries import Registries
from lazyfs.sync.shards import Shard
from lazyfs.sync.starts import StartSettings
from tests.support.fake_registry import FakeRegistry
from tests.support.service import ServiceSite, built, events_of

SECRET = "token=very-secret"
REASON = "unforeseen ValueError, a bug of lazyfs: lazyfs --debug shows where"


def failing(*_: object, **__: object) -> Any:
    raise ValueError(SECRET)


def failing_for_bad(real: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a method that fails if its argument is, or has, the tag `bad`."""

    def method(self: object, asked: str | Job) -> Any:
        tag = asked.target.reference.tag if isinstance(asked, Job) else asked
        return failing() if tag == "bad" else real(self, asked)

    return method


@pytest.mark.parametrize(("kind", "name"), [(RegistryClient, "digest"), (ImagePreparer, "prepare")])
def test_one_image_fails_alone(
    kind: type,
    name: str,
    site: ServiceSite,
    registry: FakeRegistry,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for tag in ("good", "bad"):
        registry.add(built(tag), tag)
    site.wish("r.example/team/app:bad", "r.example/team/app:good")
    monkeypatch.setattr(kind, name, failing_for_bad(getattr(kind, name)))
    report = site.run()
    assert events_of(report, "published") == ["r.example/team/app:good"]
    assert [event.reason for event in report.events if event.event == "failed"] == [REASON]
    assert SECRET in caplog.text, "--debug shows the traceback"
    caplog.clear()
    caplog.set_level(logging.INFO, "lazyfs.sync")
    site.run()
    assert caplog.text == ""


def test_one_wish_fails_alone(
    site: ServiceSite, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.add(built("good"), "good")
    site.wish("r.example/team/other:*", "r.example/team/app:good")
    monkeypatch.setattr(RegistryClient, "tags", failing)
    report = site.run()
    assert events_of(report, "published") == ["r.example/team/app:good"]
    assert [event.reason for event in report.events if event.event == "failed"] == [REASON]


def test_one_list_fails_alone() -> None:
    given = load("list.yaml", ListKeeper(None), failing)
    assert not given.complete
    assert [finding.reason for finding in given.problems] == [REASON]


def test_an_image_that_a_worker_reads_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "open_tools", failing)
    surroundings = Surroundings("store", "lease", 60.0, Platform("linux", "amd64"), False, {})
    answer = convert(surroundings, ImageJob(parse("r.example/team/app:1"), "sha256:" + "0" * 64), {})
    assert (answer.failed, answer.transient, answer.store_failed) == (REASON, False, False)


def test_a_start_that_cannot_be_recorded_fails_alone(site: ServiceSite, registry: FakeRegistry) -> None:
    class Recorder:
        record = staticmethod(failing)

    registry.add(built("good"), "good")
    site.list.write_text("lazyfs: 1\nimages: [{image: 'r.example/team/app:good', profile: cat /good}]\n")
    report = site.run(starts=StartSettings(Recorder(), 20))
    assert events_of(report, "published") == ["r.example/team/app:good"]
    assert any(REASON in notice for notice in report.notices)


def test_a_planned_image_fails_alone(
    site: ServiceSite, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the plan, and in the shard that reads its layers."""
    registry.add(built("one"), "1")
    site.wish("r.example/team/app:1")
    store, now = open_store(str(site.repository.path)), datetime.now(UTC)
    lease = PublisherLease(store, lambda: now)
    lists = [load(str(site.list), ListKeeper(None))]
    platform = Platform("linux", "amd64")
    with Registries(site.registries, {}) as registries:
        planner = Planner(store, registries, platform, False, site.settings.layout, now)
        made = planner.plan(lists, lease, 3600.0)
        with monkeypatch.context() as patch:
            patch.setattr(plan, "RegistryImage", failing)
            assert planner.plan(lists, lease, 3600.0).failed == {"r.example/team/app:1": REASON}
        surroundings = made.surroundings(str(site.repository.path), registries)
        shard = Shard(made, surroundings, 0, 1, at_once=1, tell=lambda _: None)
        monkeypatch.setattr(ImagePreparer, "prepare_layers", failing)
        shard._convert_layers(0)
        assert shard._report.failed == {"r.example/team/app:1": REASON}
    lease.end()


@pytest.mark.parametrize("kind", [StoreError, StoreConflict, KeyboardInterrupt])
def test_a_failure_of_the_store_and_an_interrupt_end_the_run(
    kind: type[BaseException], site: ServiceSite, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.add(built("good"), "good")
    site.wish("r.example/team/app:good")

    def prepare(*_: object) -> Any:
        raise kind("ended")

    monkeypatch.setattr(ImagePreparer, "prepare", prepare)
    with pytest.raises(kind, match="ended"):
        site.run()


def test_listening_goes_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Runs:
        take = staticmethod(failing)

    monkeypatch.setattr(listen, "PAUSE", 0.0)
    listen._run(Runs(), [], [])  # type: ignore[arg-type]
    assert capsys.readouterr().err.count(REASON) == listen.TRIES


BUG = """
import sys
from lazyfs.sync import lists
lists.read_wishlist = lambda *_: 1 // 0
from lazyfs.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("debug", [False, True])
def test_only_a_debugged_command_shows_the_traceback(debug: bool, tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("version: 1\n")
    command = [sys.executable, "-c", BUG, *(["--debug"] if debug else []), "sync", "--check", "list.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "unforeseen ZeroDivisionError" in done.stdout
    assert ("Traceback" in done.stderr) == debug
