"""Outgoing webhooks: their content, the image names that they omit, and runs that never wait for them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.ports import free_port
from lazyfs.core.errors import UsageError
from lazyfs.core.webhooks.proofs import signature
from lazyfs.images.registry.certificates import Certificates
from lazyfs.images.registry.wire import Wire
from lazyfs.sync.ledger import News
from lazyfs.sync.notifier import MOST_EVENTS, MOST_WAITING, SIGNATURE, Address, Notifier, messages
from lazyfs.sync.report import FAILED, MOVED, PUBLISHED, REMOVED, Event
from lazyfs.sync.settings import read_settings
from tests.support.cli import lazyfs, new_repository
from tests.support.fake_registry import FakeRegistry
from tests.support.hook_receiver import HookReceiver, hook_receiver
from tests.support.service import ServiceSite, built
from tests.support.tls import Authority
from tests.support.until import until

SECRET = "a-secret-of-the-site"
ALL = frozenset((PUBLISHED, MOVED, REMOVED, FAILED))
ANN = {"Basic YW5uOnJpZ2h0LWhvcnNl": "ann"}


@pytest.fixture
def receiver() -> Iterator[HookReceiver]:
    with hook_receiver() as receiver:
        yield receiver


def wire(ca: Path | None = None) -> Wire:
    environment = {"SSL_CERT_FILE": str(ca)} if ca else {}
    return Wire(Certificates((), (), environment), plain_http=ca is None, proxies=lambda _: None)


def news(*images: str, event: str = PUBLISHED, public: bool = True) -> list[News]:
    return [News(Event(7, event, image, "sha256:a", revision=3, owners=("ann",)), public) for image in images]


def told(address: Address, found: list[News], ca: Path | None = None) -> list[str]:
    """Sends the news to one address; returns the lines about messages that could not be delivered."""
    said: list[str] = []
    with Notifier(
        "test.example.org", [address], lambda _: wire(ca), said.append, pauses=(0.0, 0.0)
    ) as notifier:
        notifier.announce(found)
    return said


def test_a_message_is_signed_and_names_no_owner(receiver: HookReceiver) -> None:
    address = Address("chat", f"{receiver.url}/hooks/123", SECRET, events=ALL)
    assert told(address, news("r.example/a:1")) == []
    (one,) = receiver.received
    assert one.path == "/hooks/123"
    assert one.fields[SIGNATURE.lower()] == signature(SECRET, one.body)
    assert one.json == {
        "repository": "test.example.org",
        "events": [
            {"time": 7, "event": "published", "image": "r.example/a:1", "digest": "sha256:a", "revision": 3}
        ],
        "withheld": 0,
    }
    assert SECRET.encode() not in one.body


def test_a_secret_may_stand_in_a_header(receiver: HookReceiver) -> None:
    told(Address("chat", receiver.url, SECRET, "X-Token", ALL), news("r.example/a:1"))
    (one,) = receiver.received
    assert one.fields["x-token"] == SECRET
    assert SIGNATURE.lower() not in one.fields


def test_names_that_are_not_public_are_counted_unless_the_operator_says_so() -> None:
    found = [*news("r.example/a:1"), *news("r.example/secret:1", event=FAILED, public=False)]
    address = Address("chat", "https://chat.example", events=ALL)
    (one,) = map(json.loads, messages("t", address, found))
    assert ([event["image"] for event in one["events"]], one["withheld"]) == (["r.example/a:1"], 1)
    (one,) = map(json.loads, messages("t", address, found[1:]))
    assert (one["events"], one["withheld"]) == ([], 1)
    (one,) = map(json.loads, messages("t", address._replace(private_names=True), found))
    assert (len(one["events"]), one["withheld"]) == (2, 0)
    assert messages("t", address._replace(events=frozenset((MOVED,))), found) == []


def test_many_events_are_several_messages() -> None:
    found = news(*(f"r.example/a:{number}" for number in range(2 * MOST_EVENTS + 1)))
    address = Address("chat", "https://chat.example", events=ALL)
    assert [len(json.loads(one)["events"]) for one in messages("t", address, found)] == [200, 200, 1]


def test_what_passes_is_tried_again_and_what_lasts_is_not(receiver: HookReceiver) -> None:
    address = Address("chat", receiver.url, events=ALL)
    receiver.statuses = [503, 429]
    assert told(address, news("a")) == []
    assert len(receiver.received) == 3
    receiver.received.clear()
    receiver.statuses = [500, 500, 500]
    assert told(address, news("a")) == ["notify chat: it answers 500"]
    assert len(receiver.received) == 3
    receiver.received.clear()
    receiver.statuses = [403]
    assert told(address, news("a")) == ["notify chat: it answers 403"]
    assert len(receiver.received) == 1


def test_no_redirect_is_followed(receiver: HookReceiver) -> None:
    with hook_receiver() as elsewhere:
        receiver.statuses, receiver.location = [307], elsewhere.url
        address = Address("chat", receiver.url, SECRET, "X-Token", ALL)
        assert told(address, news("a")) == ["notify chat: it answers 307 (redirects are not followed)"]
        assert elsewhere.received == []


def test_tls_is_checked_and_not_given_up(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other", "another CA")
    with hook_receiver(authority.server()) as receiver:
        address = Address("chat", f"{receiver.url}/hooks/secret-path", events=ALL)
        assert told(address, news("a"), authority.ca) == []
        assert len(receiver.received) == 1
        (said,) = told(address, news("a"), other.ca)
        assert "its certificate is not trusted" in said
        assert "secret-path" not in said
        plain = address._replace(url=address.url.replace("https", "http"))
        assert "without TLS: refused" in told(plain, news("a"), authority.ca)[0]
        assert len(receiver.received) == 1


def test_a_dead_address_holds_up_neither_the_run_nor_another(receiver: HookReceiver) -> None:
    with hook_receiver() as stuck:
        stuck.go_on.clear()
        said: list[str] = []
        addresses = [
            Address("stuck", stuck.url, events=ALL),
            Address("dead", f"http://127.0.0.1:{free_port()}", events=ALL),
            Address("good", receiver.url, events=ALL),
        ]
        with Notifier("t", addresses, lambda _: wire(), said.append, patience=0.2, pauses=(0.0,)) as notifier:
            for number in range(MOST_WAITING + 20):
                notifier.announce(news(f"r.example/a:{number}"))
            until(lambda: len(receiver.received) > 1 and len(stuck.received) == 1, 60)
            until(lambda: any(line.startswith("notify dead: http://127.0.0.1:") for line in said), 60)
        assert "notify stuck: given up: it has not answered in time" in said
        assert "notify stuck: too many messages wait: one is dropped" in said
        refused = [line for line in said if line.startswith("notify dead: http://127.0.0.1:")]
        assert refused
        assert all("Connection refused" in line for line in refused)
        assert len(stuck.received) == 1


def test_a_run_that_is_given_up_waits_for_no_address() -> None:
    with hook_receiver() as stuck:
        stuck.go_on.clear()
        said: list[str] = []
        addresses = [Address("stuck", stuck.url, events=ALL)]
        notifier = Notifier("t", addresses, lambda _: wire(), said.append, patience=1000)

        def given_up() -> None:
            with notifier:
                notifier.announce(news("a"))
                until(lambda: bool(stuck.received), 60)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            given_up()
    assert said == ["notify stuck: given up: it has not answered in time"]


def test_a_run_announces_each_revision_and_whose_names_are_public(
    tmp_path: Path, registry: FakeRegistry
) -> None:
    site = ServiceSite(tmp_path / "site", {"r.example": registry.host})
    announced: list[list[News]] = []

    def shown() -> list[tuple[str, str, bool]]:
        found = [(one.event.event, one.event.image, one.public) for batch in announced for one in batch]
        announced.clear()
        return found

    registry.add(built("1"), "1")
    site.wish("r.example/team/app:1", "r.example/team/app:2")
    site.run(announce=announced.append)
    assert [len(batch) for batch in announced] == [2]
    assert sorted(shown()) == [
        ("failed", "r.example/team/app:2", False),
        ("published", "r.example/team/app:1", True),
    ]
    registry.errors = 0
    registry.nobody = {"manifests": 403}
    site.run(announce=announced.append)
    assert ("failed", "r.example/team/app:1", True) in shown()
    registry.nobody = {}
    site.list.write_text("version: 1\ninput: ['r.example/team/app:2']\n")
    site.run(announce=announced.append)
    assert ("removed", "r.example/team/app:1", True) in shown()
    registry.basic, registry.accounts = True, ANN
    site.log_in("r.example", "ann", "right-horse")
    registry.add(built("2"), "2")
    site.run(announce=announced.append)
    assert shown() == [("published", "r.example/team/app:2", False)]
    site.run(announce=announced.append, dry_run=True)
    assert shown() == []


def test_the_command_tells_the_addresses_of_the_configuration(
    tmp_path: Path, registry: FakeRegistry, receiver: HookReceiver
) -> None:
    new_repository(tmp_path)
    registry.add(built("1"), "1")
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "list.yaml").write_text("input: ['r.example/team/app:1']\n")
    config = tmp_path / "service.toml"
    config.write_text(
        f'[registries."r.example"]\naddress = "{registry.host}"\nplain-http = true\n'
        f'[notify.chat]\nurl = "{receiver.url}/x"\nplain-http = true\nsecret-file = "{tmp_path}/secret"\n'
    )
    receiver.statuses = [404]
    done = lazyfs(
        "sync", tmp_path / "list.yaml", tmp_path / "store", "--keys", tmp_path / "keys",
        "--config", config, "--status-dir", tmp_path / "status",
    )  # fmt: skip
    assert done.returncode == 0, "a webhook is no part of the run's success"
    assert "notify chat: it answers 404" in done.stderr
    (one,) = receiver.received
    assert [event["image"] for event in one.json["events"]] == ["r.example/team/app:1"]
    assert one.fields[SIGNATURE.lower()] == signature(SECRET, one.body)
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("url = 'ftp://chat.example/secret-path'", "url is no https:// address"),
        ("url = 'http://chat.example/secret-path'", "allow it with plain-http"),
        ("url = 'https://ann:pw@chat.example/secret-path'", "url has an account in it"),
        ("url = 'https://[chat/secret-path'", "url is no address"),
        ("url = 'https://c.example/secret-path'\nevents = ['made']", "events has 'made'"),
        (
            "url = 'https://c.example/secret-path'\nsecret-header = 'X:Y'\nsecret-file = 'x'",
            "no name of a header",
        ),
        ("url = 'https://c.example/secret-path'\nsecret-header = 'X-Y'", "secret-header without secret-file"),
    ],
)
def test_an_address_that_is_not_described_right(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "service.toml"
    config.write_text(f"[notify.chat]\n{text}\n")
    with pytest.raises(UsageError, match=f"notify.chat: .*{re.escape(said)}") as raised:
        read_settings(str(config))
    assert "secret-path" not in str(raised.value)
