"""The faults of registries, played to the client by a fake registry."""

import base64
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from lazyfs.core.errors import (
    BadData,
    DigestMismatch,
    FormatError,
    LazyfsError,
    NotFound,
    TransportError,
    UsageError,
)
from lazyfs.core.oci.manifest import Descriptor, Manifest, Platform
from lazyfs.core.oci.manifest import parse as parse_manifest
from lazyfs.core.oci.reference import parse
from lazyfs.core.registry.access import ATTEMPTS
from lazyfs.images.registry import client as client_module
from lazyfs.images.registry import spool
from lazyfs.images.registry.accounts import Asked
from lazyfs.images.registry.addresses import origin_of
from lazyfs.images.registry.client import BLOB_RATE, BLOB_TIME, MAX_BLOB, TAGS_TIME, RegistryClient
from lazyfs.images.registry.problems import Failed
from lazyfs.images.registry.spool import read_ahead
from lazyfs.images.registry.transfer_rate import LEAST, WINDOW, TransferRate
from lazyfs.images.sources.open import ImageOptions, open_registry
from tests.support.catalog_listing import Listed, open_tree
from tests.support.fake_registry import FakeRegistry, fake_registry, in_seconds
from tests.support.oci_images import Built, entry, layer
from tests.support.repositories import Repository
from tests.support.small_disks import mounted_disk
from tests.support.zstd_bombs import peak_of

LARGE = layer(entry("large", data=os.urandom(3 << 20)))
IMAGE = Built([LARGE, layer(entry("small", data=b"s"))], how="none")


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as registry:
        registry.add(IMAGE, "v1")
        yield registry


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def options(pauses: list[float]) -> ImageOptions:
    return ImageOptions(Platform("linux", "amd64"), plain_http=True, pause=pauses.append)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def publish(repository: Repository, registry: FakeRegistry, options: ImageOptions, tag: str = ":v1") -> None:
    repository.publish(f"docker://{registry.host}/team/app{tag}", images=options)


def check_published(repository: Repository) -> None:
    listed = Listed(open_tree(repository.path), IMAGE.flat)
    assert sorted(listed.entries) == [b"large", b"small"]
    assert listed.read(b"large") in LARGE
    assert repository.check().bad == 0


@pytest.fixture
def client(registry: FakeRegistry, options: ImageOptions) -> Iterator[RegistryClient]:
    with open_registry(f"docker://{registry.host}/team/app:v1", options) as (client, _):
        yield client


def test_tags_over_many_pages(registry: FakeRegistry, client: RegistryClient) -> None:
    registry.tags = [f"t{number:03}" for number in range(95)]
    registry.page = 10
    assert client.tags() == registry.tags
    assert registry.count("tags/list") == 10


def test_tags_that_nobody_can_name_are_left_out(registry: FakeRegistry, client: RegistryClient) -> None:
    registry.tags = ["good", "\x1b[2J", "a/b", "", "v" * 200]
    assert client.tags() == ["good"]


def test_tags_without_end_or_on_another_server_are_refused(
    registry: FakeRegistry, client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.tags = [f"t{number:03}" for number in range(95)]
    registry.page = 10
    monkeypatch.setattr(client_module, "MAX_TAGS", 30)
    with pytest.raises(FormatError, match="more than 30 tags"):
        client.tags()
    registry.link = '<http://elsewhere.example/v2/team/app/tags/list?last=x>; rel="next"'
    with pytest.raises(FormatError, match="on another server"):
        client.tags()


def test_too_many_tags_on_the_last_page_are_refused(
    registry: FakeRegistry, client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_TAGS", 30)
    registry.tags = [f"t{number:03}" for number in range(31)]
    with pytest.raises(FormatError, match="more than 30 tags"):
        client.tags()
    registry.tags.pop()
    assert len(client.tags()) == 30


@pytest.mark.parametrize("page", [b'{"tags": []}', b'{"tags": null}', b'{"tags": ["a b"]}'])
def test_pages_without_tags_do_not_go_on_for_ever(
    page: bytes, registry: FakeRegistry, client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_TAG_PAGES", 20)
    registry.tag_list, registry.pages = page, 40
    with pytest.raises(FormatError, match=r"does not end \(20 pages\)"):
        client.tags()
    assert registry.count("tags/list") == 20


def test_all_pages_of_tags_together_have_a_deadline(registry: FakeRegistry, client: RegistryClient) -> None:
    registry.tag_list, registry.pages = b'{"tags": ["v1"]}', 40
    times = iter([0.0, TAGS_TIME, TAGS_TIME + 1])
    slow = RegistryClient(
        parse(f"{registry.host}/team/app:v1"), client._conversation, now=lambda: next(times)
    )
    with pytest.raises(TransportError, match="2 tags on 2 pages so far"):
        slow.tags()


@pytest.mark.parametrize("hostile", ["<", "<>", "<>;", "<> ", '<>;rel="nex'])
def test_a_link_field_is_read_in_linear_time(hostile: str) -> None:
    """Quadratic time would be more than 10^12 steps here."""
    assert client_module._NEXT.search(hostile * 2_000_000) is None


@pytest.mark.parametrize(
    "field",
    [
        '</v2/a/tags/list?last=x>; rel="next"',
        "</v2/a/tags/list?last=x>;rel=next",
        '<https://r.example/first>; rel="first", </v2/a/tags/list?last=x> ; title="t"; rel="next"',
    ],
)
def test_the_next_page_is_found_in_a_link_field(field: str) -> None:
    found = client_module._NEXT.search(field)
    assert found
    assert found[1] == "/v2/a/tags/list?last=x"


@pytest.mark.parametrize("sent", ["https://[", "//[x", "https://a]b/"])
def test_what_a_server_sends_as_an_address_may_be_none(
    sent: str, registry: FakeRegistry, client: RegistryClient
) -> None:
    registry.tags, registry.page, registry.link = ["a", "b"], 1, f'<{sent}>; rel="next"'
    with pytest.raises(FormatError, match=r"the next page of tags: .* is not an address"):
        client.tags()
    registry.storage = sent
    with pytest.raises(TransportError, match=r"it leads to .* which is not an address$"):
        list(client.blob(Descriptor("sha256:" + "0" * 64, 5)))


@pytest.mark.parametrize("proxy", ["http://[", "http://ann:secret@a b:3128", "http://h:port", "ftp://h"])
def test_a_proxy_that_is_no_address_is_named_by_its_variable(
    proxy: str, registry: FakeRegistry, options: ImageOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with (
        open_registry("docker://r.example/team/app:v1", options) as (client, _),
        pytest.raises(UsageError, match=r"proxy of http://r\.example: only http:// .*HOST:PORT") as raised,
    ):
        client.manifest("v1")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "address",
    [
        "ftp://h.example/x?token=secret",
        "https:///x?token=secret#secret",
        "https://ann:secret@h.example:99999/x",
        "https://ann:secret/@h.example/x",
        "https://ann:secret\u2100@h.example/x",
        "https://[::1/x?secret",
        "/x?secret",
    ],
)
def test_an_address_that_is_refused_is_shown_without_its_secrets(address: str) -> None:
    with pytest.raises(Failed, match="not an") as raised:
        origin_of(address)
    assert "secret" not in str(raised.value)


def test_pages_and_token_servers_are_named_without_their_query(
    registry: FakeRegistry, client: RegistryClient
) -> None:
    registry.tags = ["a", "b"]
    registry.page, registry.link = 1, '<https://elsewhere.example/list?sig=secret>; rel="next"'
    with pytest.raises(FormatError, match=r"on another server: https://elsewhere.example/list$"):
        client.tags()
    registry.link = '</v2/team/app/nothing?sig=secret>; rel="next"'
    with pytest.raises(NotFound, match=r"has no http://.*/v2/team/app/nothing$"):
        client.tags()
    registry.nobody = {"nothing": 400}
    with pytest.raises(TransportError, match=r"answers 400 to http://.*/v2/team/app/nothing$"):
        client.tags()


DEEP = b"[" * 100_000
NO_ANSWERS = [
    b"",
    b"[]",
    b"null",
    b"\xff",
    DEEP,
    b'{"x":' + DEEP,
    b'{"tags": 1, "token": 1}',
    b'{"tags": [1]}',
]


@pytest.mark.parametrize("answer", NO_ANSWERS, ids=lambda answer: repr(answer[:10]))
def test_answers_that_are_none_are_refused_in_one_line(
    registry: FakeRegistry, client: RegistryClient, answer: bytes
) -> None:
    registry.tag_list = answer
    with pytest.raises(FormatError, match="the list of tags is not one"):
        client.tags()
    registry.tokens, registry.token_answer = True, answer
    with pytest.raises(UsageError, match="its token server answered without a token"):
        client.manifest("v1")


def test_answers_without_an_end_in_sight_are_not_held(registry: FakeRegistry, client: RegistryClient) -> None:
    registry.tokens, registry.token_answer = True, b'{"token": "' + b"x" * (64 << 20)

    def refused() -> None:
        with pytest.raises(UsageError, match="without a token"):
            client.manifest("v1")

    assert peak_of(refused) < 16 << 20


@pytest.mark.parametrize("text", ["\u00b2", "9" * 5000, "-1", "1e3", "Thu, 99 Foo", "0001-01-01"])
def test_a_retry_after_that_is_none_is_no_traceback(
    registry: FakeRegistry, client: RegistryClient, pauses: list[float], text: str
) -> None:
    registry.limited, registry.retry_after = 2, text
    if text == "9" * 5000:
        with pytest.raises(TransportError, match="asks to wait"):
            client.manifest("v1")
    else:
        assert client.manifest("v1")
        assert pauses == [1.0, 2.0]


@pytest.mark.parametrize("stated", ["bytes " + "9" * 5000 + "-", "bytes \u00b2-9/10", "bytes 0-9/10", "no"])
def test_a_blob_resumed_elsewhere_is_refused(
    registry: FakeRegistry, repository: Repository, options: ImageOptions, stated: str
) -> None:
    registry.cut, registry.content_range = [100_000], stated
    with pytest.raises(TransportError, match="resumes a blob at the wrong byte"):
        publish(repository, registry, options)


def test_rate_limit_is_waited_out_as_asked(
    registry: FakeRegistry, repository: Repository, options: ImageOptions, pauses: list[float]
) -> None:
    registry.limited, registry.retry_after = 3, "17"
    publish(repository, registry, options)
    assert pauses == [17.0, 17.0, 17.0]
    check_published(repository)


def test_retry_after_may_be_a_date(
    registry: FakeRegistry, client: RegistryClient, pauses: list[float]
) -> None:
    registry.limited, registry.retry_after = 1, in_seconds(40)
    client.manifest("v1")
    assert len(pauses) == 1
    assert 35 < pauses[0] <= 40


def test_a_rate_limit_that_does_not_end_is_one_clear_error(
    registry: FakeRegistry, repository: Repository, options: ImageOptions, pauses: list[float]
) -> None:
    registry.limited, registry.retry_after = 1000, "3600"
    with pytest.raises(TransportError, match=r"answers 429 .* asks to wait 3600 s: try again later"):
        publish(repository, registry, options)
    assert pauses == []
    registry.retry_after = "2"
    with pytest.raises(TransportError, match="429"):
        publish(repository, registry, options)
    assert len(pauses) == ATTEMPTS - 1


def test_server_errors_are_repeated_with_doubling_pauses(
    registry: FakeRegistry, repository: Repository, options: ImageOptions, pauses: list[float]
) -> None:
    registry.errors = 3
    publish(repository, registry, options)
    assert sorted(pauses) == [1.0, 2.0, 4.0]
    check_published(repository)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_registry_that_dies_in_mid_layer_is_resumed(
    ranges: bool, registry: FakeRegistry, repository: Repository, options: ImageOptions
) -> None:
    registry.ranges = ranges
    registry.cut = [1_500_000, 2_000_000 if not ranges else 700_000, 3_000_000 if not ranges else 100]
    publish(repository, registry, options)
    expected = ["bytes=1500000-", "bytes=2200000-", "bytes=2200100-"]
    if not ranges:
        expected = ["bytes=1500000-", "bytes=2000000-", "bytes=3000000-"]
    assert registry.ranges_asked == expected
    check_published(repository)


def test_a_layer_that_never_comes_whole_is_an_error(
    registry: FakeRegistry, repository: Repository, options: ImageOptions
) -> None:
    before = repository.files()
    registry.cut = [100_000] + [0] * 50
    with pytest.raises(TransportError, match="breaks off after 100000 of 3"):
        publish(repository, registry, options)
    assert repository.files() == before


def test_a_blob_that_trickles_has_a_deadline(registry: FakeRegistry, client: RegistryClient) -> None:
    document = parse_manifest(client.manifest("v1"), "v1")
    assert isinstance(document, Manifest)
    large = document.layers[0]
    for late, message in (
        (BLOB_TIME, None),
        (BLOB_TIME + 1 + large.size / BLOB_RATE, rf"comes too slowly: \d+ of {large.size} bytes"),
    ):
        times = iter([0.0])
        slow = RegistryClient(
            parse(f"{registry.host}/team/app:v1"),
            client._conversation,
            now=lambda times=times, late=late: next(times, late),  # type: ignore[misc]
        )
        if message:
            with pytest.raises(TransportError, match=message):
                list(slow.blob(large))
        else:
            assert sum(map(len, slow.blob(large))) == large.size


def test_a_blob_that_is_said_to_be_too_large_is_not_asked_for(
    registry: FakeRegistry, client: RegistryClient
) -> None:
    huge = Descriptor("sha256:" + "0" * 64, MAX_BLOB + 1)
    with pytest.raises(FormatError, match="is said to have"):
        next(client.blob(huge))
    assert registry.requests == []


def test_a_part_of_a_body_is_what_has_come(registry: FakeRegistry, client: RegistryClient) -> None:
    """The client yields the bytes that have arrived. It does not wait for a full part, which a slow server
    might never fill."""
    document = parse_manifest(client.manifest("v1"), "v1")
    assert isinstance(document, Manifest)
    registry.stop_after = 1000
    parts = client.blob(document.layers[0])
    first = next(parts)
    assert len(first) <= 1000
    registry.go_on.set()
    assert len(first) + sum(map(len, parts)) == document.layers[0].size


@pytest.mark.parametrize(("size", "slow"), [(LEAST, False), (LEAST - 1, True)])
def test_the_rate_is_that_of_the_last_minutes_of_waiting(size: int, slow: bool) -> None:
    times = iter(float((number + 1) // 2) for number in range(10_000))  # a second for each part
    many = (b"x" * (LEAST if number < WINDOW else size) for number in range(int(2 * WINDOW)))

    def read() -> int:
        return sum(1 for _ in TransferRate("blob", lambda: next(times)).watched(many))

    if not slow:
        assert read() == 2 * WINDOW
        return
    with pytest.raises(TransportError, match=r"blob comes too slowly: \d+ bytes in the last 300 s"):
        read()


def test_what_the_reader_does_between_the_parts_does_not_count() -> None:
    clock = [0.0]
    read = 0
    for _ in TransferRate("blob", lambda: clock[0]).watched(iter([b"x"] * 100)):
        clock[0] += WINDOW
        read += 1
    assert read == 100


def test_answers_that_break_off_at_once_are_no_progress(
    registry: FakeRegistry, client: RegistryClient, pauses: list[float]
) -> None:
    document = parse_manifest(client.manifest("v1"), "v1")
    assert isinstance(document, Manifest)
    registry.cut = [1] * 1000
    with pytest.raises(TransportError, match=f"breaks off after .* {ATTEMPTS} times"):
        list(client.blob(document.layers[0]))
    assert registry.count("blobs/") == ATTEMPTS


def test_expired_tokens_are_renewed(
    registry: FakeRegistry, repository: Repository, options: ImageOptions
) -> None:
    registry.tokens, registry.token_uses = True, 2
    publish(repository, registry, options)
    assert registry.tokens_given >= 2  # one each for manifest, config and two layers
    check_published(repository)


def test_a_private_image_is_noticed_and_asked_for_with_the_account(
    registry: FakeRegistry, repository: Repository, options: ImageOptions, tmp_path: Path
) -> None:
    registry.tokens = True
    registry.accounts = {"Basic " + base64.b64encode(b"deploy:secret").decode(): "deploy"}
    with pytest.raises(UsageError, match="refuses an anonymous pull"):
        publish(repository, registry, options)
    (tmp_path / "password").write_text("secret\n")
    account = replace(options, asked=Asked("deploy", str(tmp_path / "password")))
    with pytest.raises(UsageError, match="is private"):
        publish(repository, registry, account)
    publish(repository, registry, replace(account, allow_public=True))
    check_published(repository)


def test_gitlab_deploy_tokens(
    registry: FakeRegistry, repository: Repository, options: ImageOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.tokens = True
    registry.accounts = {"Basic " + base64.b64encode(b"gitlab+deploy:t").decode(): "gitlab"}
    monkeypatch.setenv("CI_REGISTRY", registry.host)
    monkeypatch.setenv("CI_DEPLOY_USER", "gitlab+deploy")
    monkeypatch.setenv("CI_DEPLOY_PASSWORD", "t")
    publish(repository, registry, replace(options, allow_public=True))
    check_published(repository)


@pytest.mark.parametrize("place", ["podman", "docker", "namespace"])
def test_stored_logins(
    place: str,
    registry: FakeRegistry,
    repository: Repository,
    options: ImageOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoded = base64.b64encode(b"user:pass").decode()
    registry.tokens = True
    registry.accounts = {f"Basic {encoded}": "user"}
    key = f"{registry.host}/team" if place == "namespace" else registry.host
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"auths": {key: {"auth": encoded}}}))
    monkeypatch.setenv("HOME", str(tmp_path))
    if place == "docker":
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    else:
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(file))
    publish(repository, registry, replace(options, allow_public=True))
    check_published(repository)


def test_wrong_bytes_are_refused(
    registry: FakeRegistry, repository: Repository, options: ImageOptions
) -> None:
    before = repository.files()
    digest = IMAGE.layer_descriptors[0]["digest"]
    good = registry.blobs[digest]
    flipped = bytearray(good)
    flipped[1_000_000] ^= 1
    for wrong in (bytes(flipped), good + b"more"):
        registry.blobs[digest] = wrong
        with pytest.raises(BadData, match="layer 0"):
            publish(repository, registry, options)
        assert repository.files() == before
    registry.blobs[digest] = good
    config = IMAGE.config["digest"]
    registry.blobs[config] = registry.blobs[config].replace(b"amd64", b"arm64")
    with pytest.raises(DigestMismatch, match=config):
        publish(repository, registry, options)


def test_a_manifest_that_is_not_the_one_of_its_digest_is_refused(
    registry: FakeRegistry, repository: Repository, options: ImageOptions
) -> None:
    digest = IMAGE.manifest["digest"]
    kind, data = registry.manifests[digest]
    registry.manifests[digest] = kind, data + b" "
    with pytest.raises(DigestMismatch, match="does not match its digest"):
        publish(repository, registry, options, f"@{digest}")


def test_the_platform_of_an_index_is_chosen(
    registry: FakeRegistry, repository: Repository, options: ImageOptions
) -> None:
    arm = Built([layer(entry("arm"))], architecture="arm64")
    registry.add(arm, "arm")
    unknown = {**IMAGE.manifest, "platform": {"os": "unknown", "architecture": "unknown"}}
    entries = [
        unknown,
        {**arm.manifest, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
        {**IMAGE.manifest, "platform": {"os": "linux", "architecture": "amd64"}},
    ]
    index = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    registry.serve("multi", "application/vnd.oci.image.index.v1+json", index)
    publish(repository, registry, options, ":multi")
    check_published(repository)
    publish(repository, registry, replace(options, platform=Platform("linux", "arm64", "v8")), ":multi")
    assert sorted(Listed(open_tree(repository.path), arm.flat).entries) == [b"arm"]
    with pytest.raises(FormatError, match="there is linux/amd64, linux/arm64/v8: choose with --platform"):
        publish(repository, registry, replace(options, platform=Platform("linux", "s390x")), ":multi")


def test_a_registry_that_is_not_there(repository: Repository, options: ImageOptions) -> None:
    with pytest.raises(TransportError, match=r"://127\.0\.0\.1:1: Connection refused, 6 times"):
        repository.publish("docker://127.0.0.1:1/team/app:v1", images=options)


@pytest.mark.parametrize("limit", [0, 3 << 20, 1 << 30])
def test_layers_fetched_ahead_come_in_order_and_within_the_limit(
    limit: int, registry: FakeRegistry, client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = [0]

    class Counted(spool._File):
        def __init__(self, descriptor: Descriptor) -> None:
            super().__init__(descriptor)
            held.append(held[-1] + descriptor.size)

        def close(self) -> None:
            super().close()
            held.append(held[-1] - self.descriptor.size)

    monkeypatch.setattr(spool, "_File", Counted)
    image = Built([layer(entry(f"f{number}", data=os.urandom(1 << 20))) for number in range(6)], how="none")
    registry.add(image, "many")
    document = parse_manifest(client.manifest("many"), "many")
    assert isinstance(document, Manifest)
    layers = list(enumerate(document.layers))
    order = []
    for number, parts in read_ahead(layers, client.blob, limit=limit):
        assert b"".join(parts) == image.blobs[document.layers[number].digest]
        order.append(number)
    assert order == list(range(6))
    assert max(held) <= limit
    assert (max(held) > 0) == (limit > 0)
    assert held[-1] == 0


@pytest.mark.root
@pytest.mark.parametrize("room", ["28k", "0"])
def test_layers_fetched_ahead_on_a_full_disk_are_one_clear_error(
    room: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if write(2) takes a part of the bytes before the disk is full, or if there is no room for a new
    file (0: no limit of bytes)."""
    part = os.urandom(20_000)
    layers = [(number, Descriptor(f"sha256:{number:064}", 3 * len(part))) for number in range(2)]
    with mounted_disk(tmp_path / "full", "-t", "tmpfs", "-o", f"size={room},nr_inodes=2", "none") as full:
        monkeypatch.setattr(tempfile, "tempdir", str(full))
        if room == "0":
            (full / "last-inode").touch()
        with (
            closing(read_ahead(layers, lambda _: iter([part] * 3))) as reading,
            pytest.raises(UsageError, match=rf"layer sha256:0.*1: No space left .*{full}: .* TMPDIR"),
        ):
            list(map(b"".join, (parts for _, parts in reading)))


def test_an_error_in_a_layer_fetched_ahead_reaches_the_reader(
    registry: FakeRegistry, client: RegistryClient
) -> None:
    del registry.blobs[IMAGE.layer_descriptors[1]["digest"]]
    document = parse_manifest(client.manifest("v1"), "v1")
    assert isinstance(document, Manifest)
    reading = read_ahead(list(enumerate(document.layers)), client.blob)
    assert b"".join(next(reading)[1]) in LARGE
    _, parts = next(reading)
    with pytest.raises(LazyfsError, match=r"has no blobs/sha256"):
        next(parts)
