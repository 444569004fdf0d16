"""Accounts at a registry: when they are used, where they are found, and to whom they are shown."""

import base64
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lazyfs.core.errors import NotFound, TransportError, UsageError
from lazyfs.core.oci.manifest import Platform
from lazyfs.core.oci.reference import parse
from lazyfs.images.registry.auth_files import from_files
from lazyfs.images.registry.credential_helpers import ask_helper
from lazyfs.images.registry.credentials import Asked, Credentials, find
from lazyfs.images.sources.open import ImageOptions
from tests.support.catalog_listing import Listed, open_tree
from tests.support.fake_registry import FakeRegistry, fake_registry
from tests.support.oci_images import Built, entry, layer
from tests.support.repositories import Repository
from tests.support.until import until

IMAGE = Built([layer(entry("file", data=b"content"))])
ACCOUNT = "Basic " + base64.b64encode(b"ann:right-horse").decode()


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as registry:
        registry.add(IMAGE, "v1")
        registry.accounts = {ACCOUNT: "ann"}
        yield registry


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without accounts."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    for name in ("XDG_CONFIG_HOME", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "CI_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def options(home: Path) -> ImageOptions:
    return ImageOptions(Platform("linux", "amd64"), plain_http=True, pause=lambda _seconds: None)


@pytest.fixture
def account(options: ImageOptions, tmp_path: Path) -> ImageOptions:
    password = tmp_path / "password"
    password.write_text("right-horse\n")
    return replace(options, asked=Asked("ann", str(password)))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def publish(repository: Repository, registry: FakeRegistry, options: ImageOptions) -> None:
    repository.publish(f"docker://{registry.host}/team/app:v1", images=options)


def check_published(repository: Repository) -> None:
    assert Listed(open_tree(repository.path), IMAGE.flat).read(b"file") == b"content"


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("kind", ["manifests", "blobs", f"blobs/{IMAGE.layer_descriptors[0]['digest']}"])
def test_what_needs_the_account_is_private_whatever_needed_it(
    kind: str,
    status: int,
    tokens: bool,
    registry: FakeRegistry,
    repository: Repository,
    account: ImageOptions,
) -> None:
    registry.tokens, registry.nobody = tokens, {kind: status}
    before = repository.files()
    with pytest.raises(UsageError, match="is private"):
        publish(repository, registry, account)
    assert repository.files() == before
    publish(repository, registry, replace(account, allow_public=True))
    check_published(repository)


def test_the_account_is_not_sent_where_nobody_is_let_in(
    registry: FakeRegistry, repository: Repository, account: ImageOptions
) -> None:
    registry.tokens, registry.nobody = True, {"never": 401}
    publish(repository, registry, account)
    assert not [path for path, sent in registry.authorizations if sent.startswith("Basic")]


def test_the_quota_of_the_address_is_used_up(
    registry: FakeRegistry, repository: Repository, account: ImageOptions
) -> None:
    registry.tokens, registry.nobody = True, {"manifests": 429}
    publish(repository, registry, account)  # public: its blobs are served to nobody
    check_published(repository)


def test_a_limit_on_everything_does_not_prove_that_an_image_is_public(
    registry: FakeRegistry, repository: Repository, account: ImageOptions
) -> None:
    registry.tokens, registry.nobody = True, {"manifests": 429, "blobs": 429}
    before = repository.files()
    with pytest.raises(UsageError, match="cannot be known whether it is public"):
        publish(repository, registry, account)
    assert repository.files() == before
    publish(repository, registry, replace(account, allow_public=True))
    check_published(repository)


def test_an_image_whose_blobs_are_known_is_proven_public_by_one_of_them(
    registry: FakeRegistry, repository: Repository, account: ImageOptions
) -> None:
    publish(repository, registry, account)
    registry.tokens, registry.nobody = True, {"manifests": 429}
    registry.requests.clear()
    publish(repository, registry, account)
    assert registry.count("blobs/") == 1
    registry.nobody = {"manifests": 429, "blobs": 403}
    with pytest.raises(UsageError, match="is private"):
        publish(repository, registry, account)


def test_a_busy_token_server(registry: FakeRegistry, repository: Repository, account: ImageOptions) -> None:
    registry.tokens, registry.nobody, registry.token_errors = True, {"never": 401}, [503, 429, 500]
    publish(repository, registry, account)
    check_published(repository)
    registry.token_errors = [503] * 6
    with pytest.raises(TransportError, match=r"its token server answers 503 \(it fails\): try again later"):
        publish(repository, registry, account)


@pytest.mark.parametrize("tokens", [False, True])
def test_the_registrys_reason_is_shown_without_the_password(
    tokens: bool, registry: FakeRegistry, repository: Repository, account: ImageOptions
) -> None:
    registry.tokens, registry.basic, registry.accounts = tokens, not tokens, {"Basic other": "bob"}
    registry.reason = json.dumps({"errors": [{"message": "right-horse has\x1b[2J expired"}]}).encode()
    with pytest.raises(UsageError, match=r"refuses the account 'ann' \(.*\*\*\* has\?\[2J expired\)"):
        publish(repository, registry, account)


def test_nothing_there_and_a_refused_account_are_both_said(
    registry: FakeRegistry, repository: Repository, account: ImageOptions
) -> None:
    registry.nobody, registry.accounts = {"manifests": 404}, {"Basic other": "bob"}
    registry.basic = False
    with pytest.raises(NotFound, match=r"has no manifests/v1"):
        publish(repository, registry, account)
    registry.tokens = True
    with pytest.raises(NotFound, match=r"or hides it: it refuses the account 'ann' \(its token server answ"):
        publish(repository, registry, account)


# Redirects


@pytest.fixture(params=["localhost", "127.0.0.1"])
def storage(registry: FakeRegistry, request: pytest.FixtureRequest) -> Iterator[FakeRegistry]:
    """Another host, and the same one on another port."""
    with fake_registry() as storage:
        storage.add(IMAGE, "v1")
        registry.storage = f"http://{request.param}:{storage.host.rpartition(':')[2]}/v2/team/app/blobs/"
        yield storage


def test_no_credential_follows_a_redirect(
    registry: FakeRegistry,
    storage: FakeRegistry,
    repository: Repository,
    account: ImageOptions,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    netrc = home / ".netrc"
    netrc.write_text(
        "machine localhost login joe password secret-of-netrc\ndefault login x password secret-y\n"
    )
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    registry.basic, registry.extra = True, {"Set-Cookie": "session=secret; Path=/"}
    registry.storage = registry.storage.replace("http://", "http://joe:secret-of-address@")
    publish(repository, registry, replace(account, allow_public=True))
    check_published(repository)
    assert len(storage.authorizations) == 2
    assert {sent for _, sent in storage.authorizations} == {""}
    assert "secret" not in " ".join(storage.fields)
    assert "session" not in " ".join(registry.fields)
    assert {sent for _, sent in registry.authorizations} == {"", ACCOUNT}


def test_a_token_server_that_redirects_takes_no_password_along(
    registry: FakeRegistry, repository: Repository, account: ImageOptions
) -> None:
    with fake_registry() as other:
        registry.tokens, registry.accounts = True, {}
        registry.nobody, registry.token_errors = {"manifests": 403}, [200, 307, 307]
        registry.extra = {"Location": f"http://{other.host}/token"}
        with pytest.raises(UsageError, match="refuses the account 'ann'"):
            publish(repository, registry, account)
        assert other.count("/token") > 0
        assert {sent for _, sent in other.authorizations} == {""}


def test_an_identity_token_is_posted_nowhere_else(
    registry: FakeRegistry, repository: Repository, options: ImageOptions, tmp_path: Path
) -> None:
    with fake_registry() as other:
        registry.tokens, registry.nobody, registry.post_error = True, {"manifests": 403}, 307
        registry.extra = {"Location": f"http://{other.host}/token"}
        path = auths(tmp_path / "auth.json", {"auths": {registry.host: {"identitytoken": "refresh-me"}}})
        with pytest.raises(
            UsageError, match=r"refuses the account's token \(its token server answered 307\)"
        ):
            publish(repository, registry, replace(options, asked=Asked(authfile=str(path))))
        assert not other.requests
        assert not other.forms


def test_the_proxys_password_goes_to_the_proxy_only(
    registry: FakeRegistry,
    storage: FakeRegistry,
    repository: Repository,
    options: ImageOptions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with fake_registry() as proxy:
        proxy.add(IMAGE, "v1")
        proxy.storage = registry.storage
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(name, "localhost,127.0.0.1")
        monkeypatch.setenv("http_proxy", f"http://me:secret-of-proxy@{proxy.host}")
        repository.publish("docker://registry.example/team/app:v1", images=options)
        given = "Basic " + base64.b64encode(b"me:secret-of-proxy").decode()
        assert given in proxy.fields
        assert len(storage.requests) == 2
        assert given not in storage.fields


def test_a_redirect_back_gets_no_credential_either(
    registry: FakeRegistry, storage: FakeRegistry, repository: Repository, account: ImageOptions
) -> None:
    registry.basic = True
    storage.storage = f"http://{registry.host}/back/"
    with pytest.raises(UsageError, match="refuses the account 'ann'"):
        publish(repository, registry, replace(account, allow_public=True))
    assert {sent for path, sent in registry.authorizations if path.startswith("/back/")} == {""}


def test_a_refusal_of_the_storage_is_not_the_registrys(
    registry: FakeRegistry, storage: FakeRegistry, repository: Repository, account: ImageOptions
) -> None:
    storage.nobody, storage.reason = {"blobs": 403}, b"Request has expired"
    with pytest.raises(
        TransportError, match=r"http://[a-z0-9.]+:\d+ answers 403: Request has expired, 6 times"
    ):
        publish(repository, registry, account)
    storage.nobody = {"blobs": 410}
    with pytest.raises(TransportError, match=r"http://[a-z0-9.]+:\d+ answers 410: Request has expired$"):
        publish(repository, registry, account)
    assert {sent for _, sent in registry.authorizations} == {""}


def test_a_redirect_within_the_registry_keeps_the_account(
    registry: FakeRegistry, repository: Repository, account: ImageOptions
) -> None:
    registry.basic = True
    data = IMAGE.blobs[IMAGE.config["digest"]]
    registry.serve("moved", "text/plain", data)
    registry.storage = "/v2/team/app/manifests/moved?"
    with pytest.raises(Exception, match="layer 0"):  # the config came, and the layer is not the config
        publish(repository, registry, replace(account, allow_public=True))


def test_redirects_without_end(registry: FakeRegistry, repository: Repository, options: ImageOptions) -> None:
    registry.storage = "/v2/team/app/blobs/"
    with pytest.raises(TransportError, match="more than 10 redirects"):
        publish(repository, registry, options)


# Auth files


def auths(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def encoded(pair: str) -> str:
    return base64.b64encode(pair.encode()).decode()


REFERENCE = parse("registry.example:5000/team/app:1")
ENTRY = {"auth": encoded("ann:secret")}
ANN = Credentials("ann", "secret")


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({"registry.example:5000": ENTRY}, ANN),
        ({"https://registry.example:5000": ENTRY}, ANN),
        ({"https://registry.example:5000/v1/": ENTRY}, ANN),
        ({"http://registry.example:5000/v2/": ENTRY}, ANN),
        ({"registry.example:5000/v2": ENTRY}, ANN),
        ({"registry.example:5000/team": ENTRY}, ANN),
        ({"registry.example:5000": {"auth": encoded("x:y")}, "registry.example:5000/team/app": ENTRY}, ANN),
        ({"registry.example:5000/other": ENTRY}, None),
        ({"registry.example": ENTRY}, None),
        ({"registry.example:5000": {}}, None),
        ({"registry.example:5000": None}, None),
        ({"registry.example:5000": {"auth": None, "identitytoken": None}}, None),
        ({"registry.example:5000": {"auth": ""}, "other": {"auth": 7}}, None),
        ({"registry.example:5000": {"auth": encoded("ann:secret\0\0")}}, ANN),
        (
            {"registry.example:5000": {"auth": encoded("ann:secret")[:4] + "\n" + encoded("ann:secret")[4:]}},
            ANN,
        ),
        ({"registry.example:5000": {"username": "ann", "password": "secret"}}, ANN),
        ({"registry.example:5000": {"auth": encoded("ann:a:b")}}, Credentials("ann", "a:b")),
        (
            {"registry.example:5000": {"auth": encoded("ann:"), "identitytoken": "it"}},
            Credentials("ann", "", "it"),
        ),
        ({"registry.example:5000": {"auth": encoded("<token>:it")}}, Credentials("", "", "it")),
        ({"registry.example:5000": {"registrytoken": "rt"}}, Credentials("", "", "", "rt")),
    ],
)
def test_entries_of_auth_files(entries: Any, expected: Credentials | None, tmp_path: Path) -> None:
    path = auths(tmp_path / "auth.json", {"auths": entries})
    assert from_files(REFERENCE, str(path), {}) == expected


@pytest.mark.parametrize(
    "key",
    [
        "docker.io", "index.docker.io", "registry-1.docker.io", "https://index.docker.io/v1/",
        "docker.io/library", "https://registry-1.docker.io/v2/", "registry.hub.docker.com",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "image", ["alpine", "index.docker.io/library/alpine", "registry-1.docker.io/alpine:3"]
)
def test_docker_hub_has_many_names_and_one_account(key: str, image: str, tmp_path: Path) -> None:
    path = auths(tmp_path / "auth.json", {"auths": {key: ENTRY}})
    assert from_files(parse(image), str(path), {}) == ANN


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ([], "not a JSON object"),
        ({"auths": []}, "auths is not a JSON object"),
        ({"auths": {"registry.example:5000": "x"}}, "registry.example:5000 is not a JSON object"),
        ({"auths": {"registry.example:5000": {"auth": "%%%"}}}, "is not base64 of name:password"),
        ({"auths": {"registry.example:5000": {"auth": encoded("no colon")}}}, "is not base64 of name:pass"),
        ({"auths": {"registry.example:5000": {"auth": 7}}}, "auth of registry.example:5000 is not a string"),
        ({"credsStore": "../bin/sh"}, "'../bin/sh' is not the name of a credential helper"),
        ({"credsStore": "a\0b"}, "is not the name of a credential helper"),
        ({"credHelpers": {"registry.example:5000": 7}}, "a credential helper is 7, not a string"),
        ({"credsStore": "nonesuch"}, "docker-credential-nonesuch .* is not installed"),
    ],
)
def test_broken_auth_files_are_named(document: Any, message: str, tmp_path: Path) -> None:
    path = auths(tmp_path / "auth.json", document)
    with pytest.raises(UsageError, match=f"{path}.*{message}|{message}") as caught:
        from_files(REFERENCE, str(path), {"PATH": str(tmp_path)})
    assert str(path) in str(caught.value)
    assert str(caught.value).isprintable()


def test_the_places_of_auth_files_in_order(home: Path, tmp_path: Path) -> None:
    environment = {"HOME": str(home), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    places = [
        tmp_path / "run/containers/auth.json",
        home / ".config/containers/auth.json",
        home / ".docker/config.json",
        home / ".dockercfg",
    ]
    for number, path in enumerate(places):
        entries = {"registry.example:5000": {"auth": encoded(f"user{number}:x")}}
        auths(path, entries if path.name == ".dockercfg" else {"auths": entries})
    for number, path in enumerate(places):
        found = find(REFERENCE, Asked(), environment)
        assert found is not None
        assert found.username == f"user{number}"
        path.unlink()
    assert find(REFERENCE, Asked(), environment) is None


def test_a_file_that_was_named_is_the_only_one(home: Path, tmp_path: Path) -> None:
    auths(home / ".docker/config.json", {"auths": {"registry.example:5000": ENTRY}})
    empty = auths(tmp_path / "auth.json", {})
    environment = {"HOME": str(home)}
    assert find(REFERENCE, Asked(), environment) == ANN
    assert find(REFERENCE, Asked(authfile=str(empty)), environment) is None
    assert find(REFERENCE, Asked(), {**environment, "REGISTRY_AUTH_FILE": str(empty)}) is None
    with pytest.raises(UsageError, match="does not exist"):
        find(REFERENCE, Asked(authfile=str(tmp_path / "none")), environment)


# Helpers


def helper(directory: Path, name: str, script: str) -> dict[str, str]:
    """Puts a helper on a PATH of its own; returns the environment."""
    directory.mkdir(exist_ok=True)
    program = directory / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": f"{directory}:{os.environ['PATH']}"}


GIVES = """read server
printf '{"ServerURL":"%s","Username":"ann","Secret":"of %s"}' $server $server"""


@pytest.mark.parametrize(
    ("document", "image", "secret"),
    [
        ({"credHelpers": {"registry.example:5000": "case"}}, None, "of registry.example:5000"),
        ({"credHelpers": {"https://registry.example:5000/": "case"}}, None, "of registry.example:5000"),
        ({"credHelpers": {"registry.example:5000/team": "case"}}, None, "of registry.example:5000"),
        ({"auths": {"registry.example:5000": {}}, "credsStore": "case"}, None, "of registry.example:5000"),
        ({"credsStore": "case", "auths": {"registry.example:5000": ENTRY}}, None, "of registry.example:5000"),
        ({"credsStore": "case"}, "alpine", "of https://index.docker.io/v1/"),
        (
            {"credHelpers": {"other.example": "case"}, "auths": {"registry.example:5000": ENTRY}},
            None,
            "secret",
        ),
    ],
)
def test_credential_helpers_are_asked(document: Any, image: str | None, secret: str, tmp_path: Path) -> None:
    environment = helper(tmp_path / "bin", "case", GIVES)
    path = auths(tmp_path / "auth.json", document)
    reference = parse(image) if image else REFERENCE
    assert from_files(reference, str(path), environment) == Credentials("ann", secret)


def test_a_helper_that_has_nothing_leaves_it_to_the_file(tmp_path: Path) -> None:
    environment = helper(tmp_path / "bin", "case", "echo credentials not found in native keychain; exit 1")
    path = auths(tmp_path / "auth.json", {"credsStore": "case", "auths": {"registry.example:5000": ENTRY}})
    assert from_files(REFERENCE, str(path), environment) == ANN


def test_a_helpers_identity_token(tmp_path: Path) -> None:
    environment = helper(tmp_path / "bin", "case", 'echo \'{"Username":"<token>","Secret":"it"}\'')
    assert ask_helper("case", "registry.example", "f", environment) == Credentials("", "", "it")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo the keyring is locked; exit 3", "fails with 3: the keyring is locked"),
        ("echo no display >&2; exit 1", "fails with 1: no display"),
        ("kill -9 $$", "fails with -9: no reason"),
        ("echo hello", "something else than JSON"),
        ("printf 'a\\0b'", "something else than JSON"),
        ('echo \'{"Username":7,"Secret":"x"}\'', "not a string"),
        ("echo '[]'", "something else than JSON"),
    ],
)
def test_a_helper_that_fails_is_named(script: str, message: str, tmp_path: Path) -> None:
    environment = helper(tmp_path / "bin", "case", script)
    with pytest.raises(UsageError, match=rf"docker-credential-case \(named by FILE\) .*{message}"):
        ask_helper("case", "registry.example", "FILE", environment)


def test_a_helper_that_hangs_ends_with_what_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    environment = helper(tmp_path / "bin", "case", f"sleep 1000 & echo $! >{pid}; wait")
    with pytest.raises(UsageError, match="did not answer in 1 s"):
        ask_helper("case", "registry.example", "FILE", environment, deadline=1.0)
    until(lambda: not _runs(int(pid.read_text())))


def _runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_public_image_starts_no_helper(
    registry: FakeRegistry,
    repository: Repository,
    options: ImageOptions,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment = helper(tmp_path / "bin", "case", f"touch {tmp_path}/started; exit 1")
    monkeypatch.setenv("PATH", environment["PATH"])
    auths(home / ".docker/config.json", {"credsStore": "case"})
    publish(repository, registry, options)
    assert not (tmp_path / "started").exists()
    registry.nobody = {"manifests": 401}
    with pytest.raises(UsageError, match="docker-credential-case"):
        publish(repository, registry, options)
    assert (tmp_path / "started").exists()


@pytest.mark.parametrize("form", ["identity", "registry"])
def test_tokens_of_auth_files(
    form: str, registry: FakeRegistry, repository: Repository, options: ImageOptions, tmp_path: Path
) -> None:
    """An identity token is posted to the token server; a registry's token is sent to the registry itself."""
    registry.tokens, registry.nobody = True, {"manifests": 403}
    entry_ = {"identitytoken": "refresh-me"} if form == "identity" else {"registrytoken": "account-mine"}
    registry._uses["account-mine"] = 100
    path = auths(tmp_path / "auth.json", {"auths": {registry.host: entry_}})
    publish(repository, registry, replace(options, asked=Asked(authfile=str(path)), allow_public=True))
    check_published(repository)
    posted = [form for form in registry.forms if form.get("refresh_token") == ["refresh-me"]]
    assert len(posted) == (form == "identity")


def test_no_secret_is_in_a_representation() -> None:
    shown = repr(Credentials("ann", "secret-1", "secret-2", "secret-3"))
    assert "secret" not in shown
