"""`lazyfs listen`: registries announce pushes, and pushed images are published if a list wishes them. Nothing
else changes."""

import fcntl
import http.client
import json
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.ports import free_port
from lazyfs.core.webhooks.proofs import signature
from lazyfs.core.webhooks.pushes import Push
from lazyfs.repository.commit import read_revision
from lazyfs.sync.bounded_server import MOST_CONNECTIONS
from lazyfs.sync.listening.push_queue import PushQueue
from lazyfs.sync.listening.push_server import PushServer, PushSource
from tests.core.test_webhooks import DOCKER, GITHUB, HARBOR, PIPELINE
from tests.support.cli import LAZYFS, lazyfs, new_repository
from tests.support.fake_registry import FakeRegistry
from tests.support.processes import has_open
from tests.support.registry import real_registry
from tests.support.service import ServiceSite, built, config_of, events_of
from tests.support.until import until

SECRET = "a-secret-of-the-site"
SOURCES = {
    "docker": PushSource("docker", "r.example", SECRET),
    "harbor": PushSource("harbor", "r.example", SECRET),
    "gitlab": PushSource("gitlab", "r.example", SECRET),
    "github": PushSource("github", "ghcr.io", SECRET),
}


@contextmanager
def server(queue: PushQueue, seconds: float = 20.0) -> Iterator[PushServer]:
    with PushServer(("127.0.0.1", 0), SOURCES, queue, time.time, seconds=seconds).running() as running:
        yield running


def post(url: str, body: bytes, **fields: str) -> int:
    """Returns the status of the answer to a webhook."""
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def head_only(running: PushServer, fields: dict[str, str]) -> int:
    """Sends the header of a webhook without its body; returns the status of the answer."""
    connection = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=30)
    connection.putrequest("POST", "/hooks/docker")
    for name, value in fields.items():
        connection.putheader(name, value)
    connection.endheaders()
    status = connection.getresponse().status
    connection.close()
    return status


def taken(queue: PushQueue) -> list[Push]:
    return queue.take(0, lambda: None)


def test_each_sender_is_answered_and_its_pushes_wait_once() -> None:
    queue = PushQueue()
    with server(queue) as running:
        for _ in range(2):  # the same again: senders repeat, and who listens on the way may too
            for name, body, proof in (
                ("docker", DOCKER, {"Authorization": f"Bearer {SECRET}"}),
                ("harbor", HARBOR, {"Authorization": SECRET}),
                ("gitlab", PIPELINE, {"X_Gitlab_Token": SECRET}),
                ("github", GITHUB, {}),
            ):
                data = json.dumps(body).encode()
                signed = {"X_Hub_Signature_256": signature(SECRET, data)} if name == "github" else proof
                assert post(f"{running.url}/hooks/{name}", data, **signed) == 202
    assert taken(queue) == [
        Push("r.example", "library/test", "1.0"),
        Push("r.example", "test-webhook/debian", "latest"),
        Push("r.example", "physics/gitlab-test", below=True),
        Push("ghcr.io", "octo-org/hello-docker", "1.2"),
    ]
    assert taken(queue) == []


def test_what_is_no_webhook_of_a_sender_is_refused() -> None:
    queue = PushQueue(most=1)
    data = json.dumps(DOCKER).encode()
    right = {"Authorization": SECRET}
    with server(queue) as running:
        url = f"{running.url}/hooks/docker"
        assert post(url, data) == 401
        assert post(url, data, Authorization="wrong") == 401
        assert post(f"{running.url}/hooks/none", data, **right) == 404
        assert post(f"{running.url}/", data, **right) == 404
        assert post(url, b"{", **right) == 400
        assert head_only(running, {**right, "Content-Length": str((1 << 20) + 1)}) == 413
        assert head_only(running, {**right, "Content-Length": "-1"}) == 411
        assert head_only(running, right) == 411
        assert head_only(running, {**right, "Content-Length": "9", "Transfer-Encoding": "chunked"}) == 411
        with pytest.raises(urllib.error.HTTPError, match="405"):
            urllib.request.urlopen(url, timeout=30)
        assert taken(queue) == []
        assert post(url, data, **right) == 202
        assert post(url, data.replace(b"1.0", b"2.0"), **right) == 503
        assert post(url, data, **right) == 202, "what waits already needs no room"
    assert taken(queue) == [Push("r.example", "library/test", "1.0")]


def test_who_sends_slowly_is_cut_off_and_holds_up_nobody() -> None:
    queue = PushQueue()
    with server(queue, seconds=0.5) as running:
        host, port = running.server_address[:2]
        slow = []
        for start in (
            b"",
            b"POST /hooks/docker HTTP/1.1\r\n",
            b"POST /hooks/docker HTTP/1.1\r\nContent-Length: 9\r\n\r\n{",
        ):
            connection = socket.create_connection((str(host), int(port)), timeout=60)
            connection.sendall(start)
            slow.append(connection)
        data = json.dumps(DOCKER).encode()
        assert post(f"{running.url}/hooks/docker", data, Authorization=SECRET) == 202
        for connection in slow:
            answer = b""
            while part := connection.recv(4096):
                answer += part
            assert b" 202 " not in answer
            connection.close()


def test_no_more_connections_than_allowed_are_answered() -> None:
    with server(PushQueue()) as running:
        address = (str(running.server_address[0]), int(running.server_address[1]))
        idle = [socket.create_connection(address, timeout=60) for _ in range(MOST_CONNECTIONS)]
        for connection in idle:
            connection.sendall(b"POST")
        extra = socket.create_connection(address, timeout=60)
        with extra:
            assert extra.recv(1) == b"", "one too many is closed"
        for connection in idle:
            connection.close()


@given(st.lists(st.none() | st.lists(st.integers(0, 9), max_size=6), max_size=20), st.integers(0, 8))
def test_no_push_waits_twice_gets_lost_or_comes_in_beyond_the_bound(
    steps: list[list[int] | None], most: int
) -> None:
    """A step is a list of pushes that are offered to the queue, or None: all pushes are taken from it."""
    queue, model = PushQueue(most), list[int]()
    for step in steps:
        if step is None:
            assert [int(push.tag) for push in taken(queue)] == model
            model.clear()
            continue
        fresh = [one for one in dict.fromkeys(step) if one not in model]
        fits = len(model) + len(fresh) <= most
        assert queue.offer([Push("r", "a", str(number)) for number in step]) is fits
        model += fresh if fits else []
    assert [int(push.tag) for push in taken(queue)] == model


def test_pushes_are_taken_by_one_and_offered_by_many() -> None:
    queue = PushQueue(most=500)
    threads = [
        threading.Thread(target=lambda number=number: queue.offer([Push("r", "a", str(number % 50))]))
        for number in range(200)
    ]
    for thread in threads:
        thread.start()

    def settle() -> None:
        for thread in threads:
            thread.join()

    found = queue.take(60, settle)
    assert sorted(push.tag for push in found) == sorted(map(str, range(50)))


def test_only_what_was_pushed_and_is_wished_is_asked_for(site: ServiceSite, registry: FakeRegistry) -> None:
    for tag in ("1", "2", "1-rc"):
        registry.add(built(tag), tag)
    site.wish("r.example/team/app:1", "r.example/team/app:2", "r.example/team/app:*-rc")
    site.run()
    moved = built("moved")
    registry.add(moved, "1")
    registry.add(built("new"), "2-rc")
    registry.add(built("unwished"), "3")
    registry.requests.clear()
    pushes = [Push("r.example", "team/app", tag) for tag in ("1", "2-rc", "3")]
    pushes += [Push("r.example", "team/private", "1"), Push("elsewhere.example", "team/app", "1")]

    report = site.run(pushes=pushes)

    assert events_of(report, "published") == ["r.example/team/app:2-rc"]
    assert events_of(report, "moved") == ["r.example/team/app:1"]
    assert registry.count("tags/list") == 0
    assert registry.count(r"manifests/(2|1-rc|3)$") == 0
    assert not [line for line in registry.requests if "private" in line]
    assert site.images()["r.example/team/app:1"] == config_of(moved)
    assert len(site.images()) == 4
    assert site.repository.check().bad == 0
    registry.requests.clear()
    again = site.run(pushes=pushes)
    assert (again.unchanged, again.events) == (2, [])
    assert registry.count("manifests/") == 2 * 2, "HEAD, which states no digest here, and GET for each"


def test_pushes_that_nobody_wishes_ask_and_change_nothing(site: ServiceSite, registry: FakeRegistry) -> None:
    registry.add(built("1"), "1")
    site.wish("r.example/team/app:1")
    site.run()
    before, state = read_revision(site.repository.store), (site.status / "state.json").read_bytes()
    registry.requests.clear()
    report = site.run(pushes=[Push("r.example", "team/app", "2"), Push("r.example", "team", below=False)])
    assert (report.events, report.exit_code) == ([], 0)
    assert registry.requests == []
    assert read_revision(site.repository.store) == before
    assert (site.status / "state.json").read_bytes() == state


def test_a_push_removes_nothing(site: ServiceSite, registry: FakeRegistry) -> None:
    """A push removes no image: not one that its registry no longer has, not one that no list wishes, and not
    one beyond a retention limit."""
    registry.unknown_manifest = b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}'
    for tag in ("1", "2", "3"):
        registry.add(built(tag), tag)
    site.list.write_text(
        "lazyfs: 1\nimages:\n  - {image: 'r.example/team/app:*', keep-last: 2}\n  - r.example/team/app:1\n"
    )
    site.run()
    site.list.write_text("lazyfs: 1\nimages:\n  - {image: 'r.example/team/app:*', keep-last: 2}\n")
    registry.add(built("4"), "4")
    del registry.manifests["3"]
    report = site.run(pushes=[Push("r.example", "team/app", "4"), Push("r.example", "team/app", "3")])
    assert report.count("removed") == 0
    assert sorted(site.images()) == [f"r.example/team/app:{tag}" for tag in (1, 2, 3, 4)]
    assert len(events_of(site.run(), "removed")) >= 1


def test_a_pipelines_end_looks_at_all_wishes_below_its_project(
    site: ServiceSite, registry: FakeRegistry
) -> None:
    for tag in ("1", "2"):
        registry.add(built(tag), tag)
    site.wish("r.example/team/app:*")
    report = site.run(pushes=[Push("r.example", "team", below=True)])
    assert len(events_of(report, "published")) == 2


def test_a_push_takes_no_path_of_another_image(site: ServiceSite, registry: FakeRegistry) -> None:
    """Two images compete for the path without the registry's name. Only a run that sees all wishes may decide
    between them."""
    site.registries["other.example"] = site.registries["r.example"]
    registry.add(built("one"), "1")
    site.list.write_text(
        "lazyfs: 1\ndefaults: {layout: osg}\nimages: [r.example/team/app:1, other.example/team/app:1]\n"
    )
    site.run()
    before = site.links()["team/app:1"]
    moved = built("two")
    registry.add(moved, "1")
    site.run(pushes=[Push("other.example", "team/app", "1")])
    assert site.links()["team/app:1"] == before
    assert site.images()["other.example/team/app:1"] == config_of(moved)


def config(site: Path, registry: str, mode: int = 0o600, secret: str = SECRET) -> Path:
    (site / "secret").write_text(f"{secret}\n")
    (site / "secret").chmod(mode)
    path = site / "service.toml"
    path.write_text(
        f'[registries."r.example"]\naddress = "{registry}"\nplain-http = true\n'
        f'[listen.local]\nkind = "docker"\nregistry = "r.example"\nsecret-file = "{site / "secret"}"\n'
    )
    return path


@contextmanager
def listening(site: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    command = [
        *LAZYFS, "listen", str(site / "list.yaml"), str(site / "store"), "--keys", str(site / "keys"),
        "--config", str(site / "service.toml"), "--status-dir", str(site / "status"),
        "--listen", f"127.0.0.1:{port}",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("listening at")
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def test_a_real_registry_tells_of_a_push_and_it_is_published(tmp_path: Path) -> None:
    new_repository(tmp_path)
    port = free_port()
    url = f"http://127.0.0.1:{port}/hooks/local"
    with real_registry(tmp_path / "registry", accounts_needed=False, notified=(url, SECRET)) as registry:
        config(tmp_path, registry.host)
        (tmp_path / "list.yaml").write_text("input: ['r.example/team/app:*']\n")
        with listening(tmp_path, port) as process:
            assert process.stdout
            registry.put(built("unwished"), "team/unwished", "1")
            registry.put(built("first"), "team/app", "1")
            said = read_to(process.stdout, "revision")
            assert "published r.example/team/app:1" in said
            registry.put(built("second"), "team/app", "1")
            said += read_to(process.stdout, "revision")
            assert "moved r.example/team/app:1" in said
        assert process.returncode == 0
        said += process.stdout.read() if not process.stdout.closed else ""
    assert "unwished" not in said
    assert SECRET not in said
    tree = lazyfs("inspect", "r.example/team/app:1", tmp_path / "store").stdout
    assert "team/app" in tree
    events = (tmp_path / "status/events.jsonl").read_text()
    assert re.findall(r'"event":"(\w+)"', events) == ["published", "moved"]


def read_to(stream: IO[str], word: str) -> str:
    """Reads a process's output up to a line that contains the word; returns what was read."""
    found = ""
    for line in stream:
        found += line
        if word in line:
            return found
    raise AssertionError(found)


def test_a_push_waits_for_another_run_to_end(tmp_path: Path) -> None:
    new_repository(tmp_path)
    port = free_port()
    with real_registry(tmp_path / "registry", accounts_needed=False) as registry:
        registry.put(built("first"), "team/app", "1")
        config(tmp_path, registry.host)
        (tmp_path / "list.yaml").write_text("input: ['r.example/team/app:1']\n")
        (tmp_path / "status").mkdir(mode=0o700)
        with listening(tmp_path, port) as process, (tmp_path / "status/.lock").open("w") as lock:
            assert process.stdout
            fcntl.flock(lock, fcntl.LOCK_EX)
            event = {"events": [{"action": "push", "target": {"repository": "team/app", "tag": "1"}}]}
            assert (
                post(f"http://127.0.0.1:{port}/hooks/local", json.dumps(event).encode(), Authorization=SECRET)
                == 202
            )
            until(lambda: has_open(process.pid, tmp_path / "status/.lock"), 60)
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert "published r.example/team/app:1" in read_to(process.stdout, "revision")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"no sender: write a section \[listen.NAME\]"),
        (
            "[listen.a]\nkind = 'npm'\nregistry = 'r.example'\nsecret-file = 'x'\n",
            "listen.a: kind 'npm' is none of",
        ),
        (
            "[listen.a]\nkind = 'docker'\nregistry = 'team'\nsecret-file = 'x'\n",
            "registry 'team' is no registry",
        ),
        ("[listen.a]\nkind = 'docker'\nregistry = 'r.example/a'\nsecret-file = 'x'\n", "is no registry"),
        (
            "[listen.a]\nkind = 'docker'\nregistry = 'r.example'\nsecret-file = '/none/such'\n",
            "secret /none/such: No",
        ),
        ("[listen.a]\nkind = 'docker'\nregistry = 'r.example'\n", "secret-file"),
        ("[listen.a]\nkind = 'docker'\nregistry = 'r.example'\nsecret = 'abc'\n", "secret"),
    ],
)
def test_a_sender_that_is_not_described_right(tmp_path: Path, text: str, said: str) -> None:
    refused(tmp_path, text, said)


@pytest.mark.parametrize(
    ("secret", "mode", "said"),
    [
        ("short", 0o600, "one line of 16"),
        ("a" * 15 + "\xe9", 0o600, "one line of 16"),
        (SECRET, 0o604, "chmod 600"),
    ],
)
def test_a_secret_that_is_none(tmp_path: Path, secret: str, mode: int, said: str) -> None:
    text = config(tmp_path, "127.0.0.1:1", mode, secret).read_text()
    done = refused(tmp_path, text, said)
    assert secret not in done


def refused(site: Path, text: str, said: str) -> str:
    """Runs `lazyfs listen` with this configuration; returns its error message. Asserts that the configuration
    is refused with one line that matches `said`."""
    (site / "service.toml").write_text(text)
    done = lazyfs(
        "listen", site / "list.yaml", site / "store", "--keys", site / "keys",
        "--config", site / "service.toml", "--status-dir", site / "status", check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert re.search(said, done.stderr), done.stderr
    assert done.stderr.count("\n") == 1
    return done.stderr
