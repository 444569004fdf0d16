"""Accounts at a registry: the requests that carry them, and the servers that see them."""

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lazyfs.core.errors import NotFound, TransportError, UsageError
from lazyfs.core.oci.manifest import Platform
from lazyfs.images.registry.accounts import Asked
from lazyfs.images.sources.open import ImageOptions
from tests.support.accounts import auths, helper
from tests.support.catalog_listing import Listed, open_tree
from tests.support.fake_registry import FakeRegistry, fake_registry
from tests.support.oci_images import Built, entry, layer
from tests.support.repositories import Repository

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
    """Makes a home directory without any account."""
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
    publish(repository, registry, account)  # the image is public: its blobs need no account
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


@pytest.mark.parametrize(
    "said", ["right-horse", "ann", ACCOUNT.removeprefix("Basic "), "user=ann", "(ann)", "https://ann:x@h"]
)
def test_no_reason_repeats_the_account(
    said: str, registry: FakeRegistry, repository: Repository, account: ImageOptions
) -> None:
    registry.basic, registry.accounts = True, {"Basic other": "bob"}
    registry.reason = json.dumps({"errors": [{"message": f"no channel for {said}"}]}).encode()
    with pytest.raises(UsageError) as raised:
        publish(repository, registry, account)
    reason = str(raised.value).partition("refuses the account 'ann' (")[2]
    assert reason.startswith("no channel for ")
    assert "***" in reason
    assert not re.search(r"\bann\b|right-horse|YW5u", reason)


def test_no_reason_repeats_a_token(
    registry: FakeRegistry, repository: Repository, account: ImageOptions
) -> None:
    registry.tokens = True
    registry.nobody = {"manifests": 400}
    registry.reason = b'{"errors":[{"message":"bad request with token-1"}]}'
    with pytest.raises(TransportError, match=r"bad request with \*\*\*$"):
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
    """Yields a server to which the registry redirects blob requests: once as another host, and once as the
    same host on another port."""
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


def test_an_api_that_is_redirected_names_no_place_for_the_account(
    registry: FakeRegistry, storage: FakeRegistry, repository: Repository, account: ImageOptions
) -> None:
    """The registry answers 404 for a private image, without a challenge. lazyfs then asks the root of the
    registry's API for a challenge. If that redirects to another server, lazyfs sends no account to either."""
    registry.nobody, registry.api_moved = {"manifests": 404}, f"http://{storage.host}/v2/"
    storage.tokens, storage.accounts = True, registry.accounts
    with pytest.raises(NotFound, match="has no manifests/v1"):
        publish(repository, registry, account)
    assert storage.requests == ["/v2/"]
    assert {sent for _, sent in (*storage.authorizations, *registry.authorizations)} == {""}


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
    with pytest.raises(Exception, match="layer 0"):  # the answer is the config, not the layer
        publish(repository, registry, replace(account, allow_public=True))


def test_redirects_without_end(registry: FakeRegistry, repository: Repository, options: ImageOptions) -> None:
    registry.storage = "/v2/team/app/blobs/"
    with pytest.raises(TransportError, match="more than 10 redirects"):
        publish(repository, registry, options)


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
    """An identity token is posted to the token server. A registry token is sent to the registry itself."""
    registry.tokens, registry.nobody = True, {"manifests": 403}
    entry_ = {"identitytoken": "refresh-me"} if form == "identity" else {"registrytoken": "account-mine"}
    registry._uses["account-mine"] = 100
    path = auths(tmp_path / "auth.json", {"auths": {registry.host: entry_}})
    publish(repository, registry, replace(options, asked=Asked(authfile=str(path)), allow_public=True))
    check_published(repository)
    posted = [form for form in registry.forms if form.get("refresh_token") == ["refresh-me"]]
    assert len(posted) == (form == "identity")
