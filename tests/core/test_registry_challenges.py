"""WWW-Authenticate headers as registries write them, and the reasons in registries' errors."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.registry.challenges import Challenge, parse_challenges
from lazyfs.core.registry.reasons import reason_of

HUB_TOKEN = 'Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull"'
PARAMETERS = (
    ("realm", "https://auth.example/token"),
    ("service", "registry.example"),
    ("scope", "repository:a/b:pull"),
)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("", ()),
        (HUB_TOKEN, (Challenge("bearer", PARAMETERS),)),
        ('Basic realm="x"', (Challenge("basic", (("realm", "x"),)),)),
        ("BASIC", (Challenge("basic"),)),
        (
            f'{HUB_TOKEN}, Basic realm="x, Digest y=z"',
            (Challenge("bearer", PARAMETERS), Challenge("basic", (("realm", "x, Digest y=z"),))),
        ),
        (
            f"Negotiate, NTLM TlRMTVNTUAAC==, {HUB_TOKEN}",
            (Challenge("negotiate"), Challenge("ntlm"), Challenge("bearer", PARAMETERS)),
        ),
        (r'Basic realm="a \"b\" \\"', (Challenge("basic", (("realm", 'a "b" \\'),)),)),
        (
            "Bearer realm=https://auth.example/token?x=1 , service=s",
            (Challenge("bearer", (("realm", "https://auth.example/token?x=1"), ("service", "s"))),),
        ),
        ('Bearer realm = "r" ,, Basic', (Challenge("bearer", (("realm", "r"),)), Challenge("basic"))),
        ('realm="lost"', ()),
    ],
)
def test_challenges(field: str, expected: tuple[Challenge, ...]) -> None:
    assert parse_challenges(field) == expected


@given(st.text(st.sampled_from('Bb asicearer,="\\realm/:\x00é'), max_size=60))
def test_any_text_is_read_without_an_error(field: str) -> None:
    for challenge in parse_challenges(field):
        assert challenge.scheme == challenge.scheme.lower() != ""


TOKENS = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
TEXTS = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=20)


@given(st.lists(st.tuples(TOKENS, st.lists(st.tuples(TOKENS, TEXTS), max_size=4)), max_size=4))
def test_what_is_written_as_the_standard_says_is_read_back(
    written: list[tuple[str, list[tuple[str, str]]]],
) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    field = ", ".join(
        f"{scheme} " + ", ".join(f"{key}={quoted(value)}" for key, value in parameters)
        for scheme, parameters in written
    )
    assert parse_challenges(field) == tuple(Challenge(scheme, tuple(pairs)) for scheme, pairs in written)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"errors": [{"code": "DENIED", "message": "access denied"}]}, "access denied"),
        (
            {"errors": [{"code": "X", "message": "m", "detail": "for you"}, {"code": "SECOND"}]},
            "m: for you; SECOND",
        ),
        ({"errors": [{"code": "UNAUTHORIZED", "detail": {"a": 1}}]}, "UNAUTHORIZED"),
        ({"details": "incorrect username or password"}, "incorrect username or password"),
        ({"error": "invalid_grant", "error_description": "token expired"}, "token expired"),
        ({"message": "no\n\x1b[31mway"}, "no ?[31mway"),
        ({"errors": None}, ""),
        ({"errors": ["text", 7]}, "text"),
        ([1], ""),
    ],
)
def test_reasons(body: object, reason: str) -> None:
    assert reason_of(json.dumps(body).encode()) == reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"404 page not found\n", "404 page not found"),
        (b"<html>busy</html>", ""),
        (b"[" * 100_000, ""),
        (b"x" * 1000, ""),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_reasons_that_are_no_json(body: bytes, reason: str) -> None:
    assert reason_of(body) == reason


@given(st.binary(max_size=300))
def test_a_reason_is_always_printable(body: bytes) -> None:
    assert (reason_of(body) or " ").isprintable()
