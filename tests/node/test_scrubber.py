"""The scrubber removes secrets from texts of every form, and keeps the facts that help to find a fault."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.node.scrubber import Scrubber, secrets_of

CLEAN = Scrubber(["/afs/site/user/a/alice", "/root"], ["alice"], [])
SECRET = "Sesame77"


@pytest.mark.parametrize(
    "text",
    [
        f"http://site:{SECRET}@squid:3128|http://other:{SECRET}@p2:1;DIRECT",
        f"https://origin/x?X-Amz-Signature={SECRET}&y=1 failed",
        f'{{"proxy": "http://site:{SECRET}@squid"}}',
        f"Authorization: Bearer {SECRET}",
        f"proxy-authorization: basic {SECRET}=",
        f"GET /token?scope=x&token={SECRET}",
        f"password={SECRET}",
        f'"client_secret": "{SECRET}", "next": 1',
        f"API_KEY : '{SECRET}'",
        f"Set-Cookie: session={SECRET}; path=/",
        f"-----BEGIN EC PRIVATE KEY-----\n{SECRET}\n-----END EC PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}\ncut off",
        f"eyJhbGciOi.{SECRET}.{SECRET}",
        f"ghp_{SECRET}{SECRET}{SECRET}",
        f"/home/{SECRET}/x and /Users/{SECRET}",
    ],
)
def test_a_secret_is_known_by_its_form(text: str) -> None:
    assert SECRET not in CLEAN.text(text)


def test_names_and_homes_go_wherever_they_stand() -> None:
    text = "/afs/site/user/a/alice/.cache belongs to Alice (alice_1, /tmp/lazyfs-alice, malice); /root/x"
    assert CLEAN.text(text) == "~/.cache belongs to user1 (user1_1, /tmp/lazyfs-user1, malice); ~/x"


@pytest.mark.parametrize(
    "text",
    [
        "origin http://origin.example:8000/unpacked: connection refused",
        "object " + "ab" * 32,
        "/cvmfs/unpacked.example.org/library/alpine:3.10.2",
        "2026-11-29 14:00:00 WARNING lazyfs.chain proxy http://squid:3128: down: no answer",
        json.dumps({"mountpoint": "/mnt", "revision": 5, "waiting": {}, "secrets": [], "tokens": {"x": 1}}),
        "is it there? yes",
        "/cvmfs/home/page and /rootfs",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert CLEAN.text(text) == text


@given(st.text("abcdefgh123%40é€", min_size=3, max_size=12), st.text("xyz", min_size=1, max_size=5))
def test_a_known_password_goes_in_every_form(password: str, user: str) -> None:
    clean = Scrubber([], [], secrets_of(f"http://{user}:{password}@squid:3128;DIRECT"))
    secrets = list(secrets_of(f"http://{user}:{password}@squid:3128"))
    assert password in secrets
    for secret in secrets:
        if len(secret) >= 3:
            assert secret not in clean.text(f"the log has {secret} in it").replace("***", "")
