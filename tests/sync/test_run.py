"""`sync` from Python makes the same runs as the command: with quotas, acknowledgements, webhooks, events and
status sites."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.sync.report import Report
from lazyfs.sync.run import sync
from lazyfs.sync.sections import AcknowledgedSettings, NotifySettings, OwnerSettings
from lazyfs.sync.settings import RegistrySettings, ServiceSettings, Settings
from tests.support.cli import new_repository
from tests.support.fake_registry import FakeRegistry
from tests.support.hook_receiver import hook_receiver
from tests.support.service import built


@pytest.fixture
def registry(registry: FakeRegistry) -> FakeRegistry:
    for tag in ("1", "2"):
        registry.add(built(f"image{tag}"), tag)
    return registry


class Programmer:
    """A Python program that calls `sync`, with a repository and a list of three images. The image `bad` does
    not exist."""

    def __init__(self, directory: Path, registry: FakeRegistry) -> None:
        self.directory = directory
        self.status = directory / "status"
        self.store, self.keys = new_repository(directory)
        self.list = directory / "wishes.yaml"
        self.wish("1", "2", "bad")
        self.registries = {"r.example": RegistrySettings(address=registry.host, plain_http=True)}

    def wish(self, *tags: str) -> None:
        lines = "".join(f"  - 'r.example/team/app:{tag}'\n" for tag in tags)
        self.list.write_text(f"lazyfs: 1\ndefaults: {{owner: atlas}}\nimages:\n{lines}")

    def sync(self, settings: Settings | None = None, **options: Any) -> Report:
        service = ServiceSettings(last_update=False)
        return sync(
            [str(self.list)],
            str(self.store),
            keys=str(self.keys),
            settings=settings or Settings(service, self.registries),
            status_directory=str(self.status),
            **options,
        )


@pytest.fixture
def program(tmp_path: Path, registry: FakeRegistry) -> Programmer:
    return Programmer(tmp_path, registry)


def test_acknowledged_failures_make_no_run_red(program: Programmer) -> None:
    assert program.sync().exit_code == 1
    known = AcknowledgedSettings("r.example/team/app:b*", date(9999, 1, 1))
    report = program.sync(Settings(registries=program.registries, acknowledged=(known,)))
    assert (report.exit_code, report.count("failed", "waiting")) == (0, 1)
    over = AcknowledgedSettings("r.example/team/app:b*", date(2020, 1, 1))
    report = program.sync(Settings(registries=program.registries, acknowledged=(over,)))
    assert report.exit_code == 1
    assert any("has ended on 2020-01-01" in notice for notice in report.notices)


def test_owners_have_their_quotas(program: Programmer) -> None:
    report = program.sync(Settings(registries=program.registries, owners={"*": OwnerSettings(images=1)}))
    assert report.count("published") == 1
    refused = [event for event in report.events if event.image == "r.example/team/app:2"]
    assert ["over the quota of atlas" in event.reason for event in refused] == [True]


def test_the_configured_addresses_are_told_and_the_status_is_written(program: Programmer) -> None:
    with hook_receiver() as receiver:
        chat = NotifySettings(url=f"{receiver.url}/chat", plain_http=True)
        service = ServiceSettings(site=str(program.directory / "site"), site_in_store=True)
        program.sync(Settings(service, program.registries, notify={"chat": chat}))
    told = {event["image"] for one in receiver.received for event in one.json["events"]}
    assert told == {"r.example/team/app:1", "r.example/team/app:2"}, "and no image that nobody may read yet"
    events = [json.loads(line) for line in (program.status / "events.jsonl").read_text().splitlines()]
    assert [one["event"] for one in events] == ["failed", "published", "published"]
    status = json.loads((program.directory / "site/status.json").read_text())
    assert (status["counts"]["published"], status["counts"]["failed"]) == (2, 1)
    public = json.loads((program.store / "status/status.json").read_text())
    assert (public["counts"]["published"], public["counts"]["failed"]) == (2, 0)


def test_a_run_takes_the_commands_options(program: Programmer) -> None:
    assert program.sync(dry_run=True).count("published") == 2
    assert not program.status.exists() or not (program.status / "state.json").exists()
    lines: list[str] = []
    assert program.sync(tell=lines.append).count("published") == 2
    program.wish("bad")
    assert program.sync(max_delete=1).refused == "", "the list has lost too much to be believed yet"
    over = program.sync(accept_shorter=[str(program.list)], max_delete=1)
    assert "2 images would leave the tree, over 1" in over.refused
    assert program.sync(accept_shorter=[str(program.list)]).count("removed") == 2


def test_settings_made_in_python_are_checked_as_a_files_are(program: Programmer) -> None:
    secret = "http://chat.example/hooks/123"
    for wrong, said in (
        (Settings(notify={"chat": NotifySettings(url=secret)}), "settings: notify.chat: url is http://"),
        (Settings(owners={"atlas": OwnerSettings(images=-1)}), "settings: owners.atlas: images = -1"),
        (Settings(ServiceSettings(layout="none")), "settings: layout 'none' is none of"),
    ):
        with pytest.raises(UsageError, match=said) as raised:
            program.sync(wrong)
        assert secret not in str(raised.value)
