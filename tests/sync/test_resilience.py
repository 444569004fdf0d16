"""The effects of a registry's errors: images keep their last good version, and only a plain "unknown" from
the registry deletes one."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from lazyfs.core.digest import sha256
from lazyfs.core.errors import TransportError
from lazyfs.core.oci.manifest import Platform
from lazyfs.core.oci.reference import parse
from lazyfs.images.registry.addresses import Origin
from lazyfs.images.registry.certificates import Certificates
from lazyfs.images.registry.problems import Failed, Problem
from lazyfs.images.registry.wire import Wire
from lazyfs.sync import resolution
from lazyfs.sync.committer import Committer
from lazyfs.sync.failures import Failure
from lazyfs.sync.pending_layers import PendingLayers
from lazyfs.sync.registries import Registries
from lazyfs.sync.registry_pace import FAILURES, RegistryPace
from lazyfs.sync.resolution import Resolver
from lazyfs.sync.settings import RegistrySettings
from tests.support.dripping_server import dripping
from tests.support.fake_registry import FakeRegistry
from tests.support.service import ServiceSite, built, config_of, events_of

HTML = b"<html><body><h1>Sign in to the site's proxy</h1></body></html>"
UNKNOWN = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'
DENIED = b'{"errors":[{"code":"DENIED","message":"no"}]}'
BOTH = b'{"errors":[{"code":"MANIFEST_UNKNOWN"},{"code":"DENIED"}]}'
ACCOUNT = "Basic YW5uOnJpZ2h0LWhvcnNl"
"""The user ann with the password right-horse."""
ORIGIN = Origin("https", "r.example", 443)


@pytest.mark.parametrize("wish", ["1", "*"])
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, b""),
        (401, UNKNOWN),
        (403, UNKNOWN),
        (404, HTML),
        (404, b""),
        (404, b"{}"),
        (404, b"[]"),
        (404, b'{"errors":[]}'),
        (404, DENIED),
        (404, BOTH),
        (429, UNKNOWN),
        (500, UNKNOWN),
        (502, HTML),
        (410, UNKNOWN),
    ],
)
def test_no_error_removes_anything(
    status: int, body: bytes, wish: str, site: ServiceSite, registry: FakeRegistry
) -> None:
    image = built("stays")
    registry.add(image, "1")
    site.wish(f"r.example/team/app:{wish}")
    site.run()
    registry.nobody = {"manifests": status, "tags": status}
    registry.reason = body
    registry.tags = []
    report = site.run()
    assert report.exit_code == 2
    assert report.count("removed") == 0
    assert site.images() == {"r.example/team/app:1": config_of(image)}
    registry.nobody, registry.tags = {}, ["1"]
    assert site.run().exit_code == 0


@pytest.mark.parametrize("wish", ["1", "*"])
def test_a_plain_unknown_does(wish: str, site: ServiceSite, registry: FakeRegistry) -> None:
    registry.add(built("goes"), "1")
    site.wish(f"r.example/team/app:{wish}")
    site.run()
    registry.nobody = {"manifests": 404, "tags": 404}
    registry.reason = UNKNOWN
    assert events_of(site.run(), "removed") == ["r.example/team/app:1"]
    assert site.images() == {}


def private(site: ServiceSite, registry: FakeRegistry) -> None:
    """Makes the image private. Only an account may read it, and the service has that account."""
    registry.accounts = {ACCOUNT: "ann"}
    registry.nobody, registry.reason = {"manifests": 404, "tags": 404}, UNKNOWN
    site.log_in("r.example", "ann", "right-horse")


def test_a_private_image_whose_account_is_never_asked_stays(
    site: ServiceSite, registry: FakeRegistry
) -> None:
    registry.add(built("stays"), "1")
    site.wish("r.example/team/app:1")
    private(site, registry)
    site.run()
    registry.accounts = {}  # the API's root gives no challenge: the account cannot be used
    report = site.run()
    assert events_of(report, "failed") == ["r.example/team/app:1"]
    assert list(site.images()) == ["r.example/team/app:1"]


def test_a_private_image_goes_if_its_account_is_told_so(site: ServiceSite, registry: FakeRegistry) -> None:
    registry.add(built("goes"), "1")
    site.wish("r.example/team/app:1")
    private(site, registry)
    site.run()
    registry.unknown_manifest = UNKNOWN
    del registry.manifests["1"]
    assert events_of(site.run(), "removed") == ["r.example/team/app:1"]


@pytest.mark.parametrize("password", ["wrong-horse", None])
def test_the_account_is_named_nowhere(
    password: str | None, site: ServiceSite, registry: FakeRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    registry.add(built("secret"), "1")
    registry.basic, registry.accounts = True, {ACCOUNT: "ann"}
    registry.reason = b'{"errors":[{"message":"ann has no such password (YW5uOndyb25nLWhvcnNl)"}]}'
    site.log_in("r.example", "ann", password or "")
    if password is None:
        (site.directory / "password").unlink()
    site.wish("r.example/team/app:1", "r.example/team/app:2")
    report = site.run()
    assert report.count("failed") == 2
    shown = [event.reason for event in report.events]
    assert all("the service's account" in reason for reason in shown)
    kept = repr(report.events) + (site.status / "state.json").read_text()
    assert not re.search(r"\bann\b|horse|YW5u|directory|/password", kept)
    assert len(caplog.messages) == (password is None)
    assert all("password: No such file" in line for line in caplog.messages)


def test_that_an_image_is_private_is_learned_again_after_a_run_that_saved_nothing(
    site: ServiceSite, registry: FakeRegistry
) -> None:
    registry.add(built("stays"), "1")
    site.wish("r.example/team/app:1")
    private(site, registry)
    site.run()
    (site.status / "state.json").unlink()
    site.run()
    site.registries["r.example"] = RegistrySettings(address=registry.host, plain_http=True)
    report = site.run()
    assert events_of(report, "failed") == ["r.example/team/app:1"]
    assert list(site.images()) == ["r.example/team/app:1"]


@pytest.mark.parametrize("page", [HTML, b"{", b'{"tags": 1}', b""])
def test_a_list_of_tags_that_breaks_proves_nothing(
    page: bytes, site: ServiceSite, registry: FakeRegistry
) -> None:
    registry.add(built("stays"), "1")
    site.wish("r.example/team/app:*")
    site.run()
    registry.tag_list = page
    del registry.manifests["1"]
    report = site.run()
    assert report.exit_code == 2
    assert list(site.images()) == ["r.example/team/app:1"]


def test_a_page_of_tags_on_another_server_proves_nothing(site: ServiceSite, registry: FakeRegistry) -> None:
    for number in range(4):
        registry.add(built("stays"), str(number))
    site.wish("r.example/team/app:*")
    site.run()
    registry.page, registry.link = 2, '<https://elsewhere.example/v2/tags/list>; rel="next"'
    assert site.run().exit_code == 2
    assert len(site.images()) == 4


@pytest.mark.parametrize("status", [405, 501])
def test_a_registry_that_knows_no_head_is_asked_with_get(
    status: int, site: ServiceSite, registry: FakeRegistry
) -> None:
    """With twenty tags: if each refused HEAD counted as an error, the server would count as down after
    twelve."""
    registry.no_head = status
    for number in range(20):
        registry.add(built("same"), str(number))
    site.wish("r.example/team/app:*")
    assert site.run().exit_code == 0
    before = registry.count("manifests/")
    again = site.run()
    assert (again.exit_code, again.unchanged) == (0, 20)
    asked = registry.count("manifests/") - before
    assert asked <= 20 + site.registries["r.example"].parallel, "one GET each, once it is known"
    registry.unknown_manifest = UNKNOWN
    del registry.manifests["7"]
    assert events_of(site.run(), "removed") == ["r.example/team/app:7"]


def test_a_registry_without_head_that_answers_other_bytes_than_its_digest_moves_nothing(
    site: ServiceSite, registry: FakeRegistry
) -> None:
    registry.no_head = 405
    image = built("stays")
    registry.add(image, "1")
    site.wish("r.example/team/app:1")
    site.run()
    registry.manifests["1"] = (image.manifest["mediaType"], b"{}")
    registry.extra = {"Docker-Content-Digest": image.manifest["digest"]}
    report = site.run()
    assert "does not match its digest" in report.events[-1].reason
    assert site.images() == {"r.example/team/app:1": config_of(image)}


def test_a_layer_that_another_image_reads_for_ever_is_not_waited_for(site: ServiceSite) -> None:
    pending, tree = PendingLayers(), site.tree()
    layer = sha256(b"layer")
    with pending.claim(tree, [layer], 1):
        with pytest.raises(TransportError, match="still being read"), pending.claim(tree, [layer], 0.01):
            pass
        with pending.claim(tree, [sha256(b"another")], 0.01):
            pass
    with pending.claim(tree, [layer], 0.01):
        pass


def test_a_registry_that_refuses_every_second_request_gives_all_images(
    site: ServiceSite, registry: FakeRegistry
) -> None:
    wishes = []
    for number in range(12):
        registry.add(built(f"image{number}"), str(number))
        wishes.append(f"r.example/team/app:{number}")
    registry.limit_every = 2
    site.wish(*wishes)
    report = site.run()
    assert report.exit_code == 0
    assert report.count("published") == 12
    assert site.repository.check().bad == 0


def test_an_image_with_a_wrong_digest_fails_alone(site: ServiceSite, registry: FakeRegistry) -> None:
    good, bad = built("good"), built("bad")
    registry.add(good, "good")
    registry.add(bad, "bad")
    digest = bad.layer_descriptors[0]["digest"]
    registry.blobs[digest] = registry.blobs[digest][:-8] + b"wrong..."
    site.wish("r.example/team/app:bad", "r.example/team/app:good")
    report = site.run()
    assert events_of(report, "published") == ["r.example/team/app:good"]
    assert events_of(report, "failed") == ["r.example/team/app:bad"]
    assert site.repository.check().bad == 0


def test_a_blob_that_breaks_off_is_read_on_and_the_image_is_whole(
    site: ServiceSite, registry: FakeRegistry
) -> None:
    image = built(*(f"file{number}" for number in range(3000)))
    registry.add(image, "1")
    registry.cut = [1000]
    site.wish("r.example/team/app:1")
    assert site.run().exit_code == 0
    assert site.repository.check().bad == 0


def test_the_lease_is_looked_at_after_each_answer(
    site: ServiceSite, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry may answer quickly for hours, so that the service never pauses. The lease must be renewed
    all the same."""
    for number in range(12):
        registry.add(built("same"), str(number))
    site.wish("r.example/team/app:*")
    site.run()
    real = Committer.keep_alive
    looks: list[int] = []

    def keep_alive(committer: Committer) -> None:
        looks.append(registry.count("manifests/"))
        real(committer)

    monkeypatch.setattr(Committer, "keep_alive", keep_alive)
    assert site.run().unchanged == 12
    assert len(looks) >= 24
    looks.clear()
    registry.unknown_manifest = UNKNOWN
    before = registry.count("manifests/")
    for number in range(1, 12):
        del registry.manifests[str(number)]
    registry.tags = ["0"]
    assert site.run().count("removed") == 11
    assert sum(asked > before + 1 for asked in looks) >= 1


def test_a_wish_that_means_too_many_images_fails_and_they_stay(
    site: ServiceSite, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        registry.add(built("same"), str(number))
    site.wish("r.example/team/app:*")
    site.run()
    monkeypatch.setattr(resolution, "MOST_CHOSEN", 3)
    report = site.run()
    assert "chooses 4 tags, over 3" in report.events[-1].reason
    assert len(site.images()) == 4
    site.list.write_text("lazyfs: 1\nimages:\n  - {image: 'r.example/team/app:*', newer-than: 90d}\n")
    before = registry.count("manifests/")
    assert "chooses 4 tags, over 3" in site.run().events[-1].reason
    assert registry.count("manifests/") == before
    assert len(site.images()) == 4


def test_dates_that_no_wish_needs_any_more_are_dropped(site: ServiceSite, registry: FakeRegistry) -> None:
    images = [built(str(number), created=f"2025-12-0{number}T00:00:00Z") for number in (1, 2)]
    registry.add(images[0], "1")
    site.list.write_text("lazyfs: 1\nimages:\n  - {image: 'r.example/team/app:*', newer-than: 90d}\n")
    site.run()
    assert list(site.state().dates) == [images[0].manifest["digest"]]
    registry.tags = []
    registry.add(images[1], "2")
    site.run()
    assert list(site.state().dates) == [images[1].manifest["digest"]]


class Clock:
    """A clock that goes on only while a caller waits."""

    def __init__(self) -> None:
        self.time = 0.0
        self.pauses: list[float] = []

    def now(self) -> float:
        return self.time

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.time += seconds


def pace(clock: Clock, parallel: int = 2) -> RegistryPace:
    return RegistryPace(parallel, pause=clock.pause, now=clock.now, wall=lambda: 1_000_000.0)


def test_a_429_holds_up_every_request_to_the_server_as_it_asks() -> None:
    clock = Clock()
    shared = pace(clock)
    with shared.turn(ORIGIN):
        shared.answered(ORIGIN, 429, {"Retry-After": "40"})
    with shared.turn(ORIGIN._replace(host="other.example")):
        assert clock.pauses == []
    with shared.turn(ORIGIN):
        assert clock.pauses == [40]
        shared.answered(ORIGIN, 200, {})
    with shared.turn(ORIGIN):
        assert clock.pauses == [40]


def test_a_429_without_a_time_is_waited_out_longer_each_time() -> None:
    clock = Clock()
    shared = pace(clock)
    for _ in range(4):
        with shared.turn(ORIGIN):
            shared.answered(ORIGIN, 429, {})
    assert clock.pauses == [1, 2, 4]


def test_a_pause_that_is_too_long_fails_at_once() -> None:
    clock = Clock()
    shared = pace(clock)
    shared.answered(ORIGIN, 429, {"Retry-After": "3600"})
    with pytest.raises(Failed, match="another 3600 s"), shared.turn(ORIGIN):
        pass
    assert clock.pauses == []


def test_a_server_that_answers_nothing_is_left_alone_and_one_answer_counts() -> None:
    shared = pace(Clock())
    problem = Problem("no route to host", hopeless=False)
    for _ in range(FAILURES - 1):
        shared.broke(ORIGIN, problem)
    shared.answered(ORIGIN, 404, {})
    for _ in range(FAILURES - 1):
        shared.broke(ORIGIN, problem)
    with shared.turn(ORIGIN):
        pass
    shared.broke(ORIGIN, problem)
    with pytest.raises(Failed, match="no route to host"), shared.turn(ORIGIN):
        pass


@pytest.mark.parametrize(
    ("status", "headers", "waited"),
    [(503, {}, 0.0), (500, {}, 0.0), (429, {"Retry-After": "299"}, 11 * 299.0)],
)
def test_a_server_that_only_ever_fails_or_refuses_is_left_alone(
    status: int, headers: dict[str, str], waited: float
) -> None:
    clock = Clock()
    shared = pace(clock)
    for _ in range(FAILURES):
        with shared.turn(ORIGIN):
            shared.answered(ORIGIN, status, headers)
    message = f"answers {status}, 12 times in a row .not asked again"
    with pytest.raises(Failed, match=message), shared.turn(ORIGIN):
        pass
    assert sum(clock.pauses) == waited


def test_requests_that_met_a_429_together_count_as_one() -> None:
    clock = Clock()
    shared = pace(clock)
    for _ in range(2 * FAILURES):
        shared.answered(ORIGIN, 429, {})
    with shared.turn(ORIGIN):
        assert clock.pauses == [1]


def test_a_registrys_time_in_a_run_ends() -> None:
    clock = Clock()
    shared = RegistryPace(2, pause=clock.pause, now=clock.now, longest=3600)
    clock.time = 1_000_000  # the registry's time begins with the first request, not with the clock
    with shared.turn(ORIGIN):
        pass
    clock.time += 3600
    shared.check(ORIGIN)
    clock.time += 1
    with pytest.raises(Failed, match="time in this run, 60 minutes, is over"):
        shared.check(ORIGIN)
    with pytest.raises(Failed, match="time in this run"), shared.turn(ORIGIN._replace(host="cdn.example")):
        pass


def test_an_image_of_a_registry_whose_time_is_over_fails_and_stays(
    site: ServiceSite, registry: FakeRegistry
) -> None:
    registry.add(built("old"), "1")
    site.wish("r.example/team/app:1")
    site.run()
    before = site.images()
    site.registries["r.example"] = msgspec.structs.replace(site.registries["r.example"], minutes_per_run=1.0)
    registry.limited, registry.retry_after = 1, "70"
    report = site.run()
    assert "time in this run, 1 minutes, is over" in report.events[-1].reason
    assert site.images() == before


def test_a_body_is_not_read_on_when_the_registrys_time_is_over(registry: FakeRegistry) -> None:
    registry.blobs["large"] = b"x" * (1 << 20)
    clock = Clock()
    limited = RegistryPace(2, pause=clock.pause, now=clock.now, longest=60)
    wire = Wire(Certificates((), (), {}), plain_http=True, pace=limited)
    with wire.get(f"http://{registry.host}/v2/team/app/blobs/large", {}) as reply:
        parts = reply.parts()
        next(parts)
        clock.time = 61
        with pytest.raises(Failed, match="time in this run"):
            next(parts)
    wire.close()


DRIPS = [b"HTTP/1.1 200 OK\r\nX: "], b"x"
"""An answer whose head has no end."""


def test_an_answer_is_not_waited_for_when_the_registrys_time_is_over() -> None:
    clock = Clock()
    limited = RegistryPace(2, pause=clock.pause, now=clock.now, longest=60)
    wire = Wire(Certificates((), (), {}), plain_http=True, pace=limited, proxies=lambda _: None)
    with (
        dripping(*DRIPS, asked=lambda: clock.pause(61)) as host,
        pytest.raises(Failed, match="time in this run"),
    ):
        wire.get(f"http://{host}/", {})
    wire.close()


def test_a_run_that_is_stopped_waits_for_no_answer() -> None:
    asked = threading.Event()
    with dripping(*DRIPS, seconds=60, asked=asked.set) as host:
        registries = Registries({host: RegistrySettings(plain_http=True)}, {})
        resolver = Resolver(registries, Platform("linux", "amd64"), {}, lambda: 0.0)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(resolver.digest, parse(f"{host}/team/app:1"))
            assert asked.wait(30)
            registries.stop()
            assert answer.result(20) == Failure("given up: the run ends", transient=True)
        assert resolver.digest(parse(f"{host}/team/app:2")) == answer.result()


def test_no_more_requests_than_allowed_are_on_their_way() -> None:
    shared = pace(Clock(), parallel=3)
    lock = threading.Lock()
    inside, most = 0, 0
    together = threading.Barrier(3, timeout=30)

    def ask() -> None:
        nonlocal inside, most
        with shared.turn(ORIGIN):
            with lock:
                inside += 1
                most = max(most, inside)
            together.wait()
            with lock:
                inside -= 1

    threads = [threading.Thread(target=ask) for _ in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 3


@pytest.mark.parametrize(
    ("body", "part"), [(HTML, "manifests"), (b"", "manifests"), (UNKNOWN, "manifests"), (HTML, "blobs")]
)
def test_an_image_whose_date_is_not_known_is_not_removed_for_its_age(
    body: bytes, part: str, site: ServiceSite, registry: FakeRegistry
) -> None:
    registry.add(built("old", created="2025-12-01T00:00:00Z"), "1")
    registry.add(built("new", created="2025-12-02T00:00:00Z"), "2")
    site.list.write_text(
        "lazyfs: 1\nimages: [{image: 'r.example/team/app:*', keep-last: 1, keep-by: created}]\n"
    )
    site.run()
    assert list(site.images()) == ["r.example/team/app:2"]
    moved = built("newer", created="2025-12-03T00:00:00Z")
    registry.tags.remove("2")
    registry.add(moved, "2")
    lost = moved.manifest["digest"] if part == "manifests" else moved.config["digest"]
    registry.nobody = {f"{part}/{lost}": 404}
    registry.reason = body
    report = site.run()
    assert report.exit_code in (1, 2)
    assert report.count("removed") == 0
    assert "r.example/team/app:2" in site.images()
    registry.nobody = {}
    assert site.run().exit_code == 0
    assert site.images() == {"r.example/team/app:2": config_of(moved)}


def test_a_tag_that_is_gone_holds_up_no_retention(site: ServiceSite, registry: FakeRegistry) -> None:
    for number in (1, 2):
        registry.add(built(f"{number}", created=f"2025-12-0{number}T00:00:00Z"), str(number))
    site.list.write_text(
        "lazyfs: 1\nimages: [{image: 'r.example/team/app:*', keep-last: 1, keep-by: created}]\n"
    )
    site.run()
    registry.add(built("3", created="2025-12-03T00:00:00Z"), "3")
    registry.tags.append("phantom")
    registry.nobody, registry.reason = {"manifests/phantom": 404}, UNKNOWN
    assert events_of(site.run(), "removed") == ["r.example/team/app:2"]
    assert list(site.images()) == ["r.example/team/app:3"]
