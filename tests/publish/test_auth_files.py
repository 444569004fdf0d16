"""The search for accounts: auth files in every form that tools write, and credential helpers."""

from pathlib import Path
from typing import Any

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.core.oci.reference import parse
from lazyfs.images.registry.accounts import Asked, find
from lazyfs.images.registry.auth_files import from_files
from lazyfs.images.registry.credential_helpers import ask_helper
from lazyfs.images.registry.credentials import Credentials
from tests.support.accounts import auths, encoded, helper
from tests.support.until import until


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Makes a home directory without any account."""
    home = tmp_path / "home"
    home.mkdir()
    return home


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


def test_no_secret_is_in_a_representation() -> None:
    shown = repr(Credentials("ann", "secret-1", "secret-2", "secret-3"))
    assert "secret" not in shown
