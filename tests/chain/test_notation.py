import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.chain.notation import parse_origins, parse_proxies, redact
from lazyfs.core.errors import UsageError


def test_the_fields_own_notation() -> None:
    assert parse_proxies("http://p1:3128|http://p2:3128;http://p3:3128;DIRECT") == (
        ("http://p1:3128", "http://p2:3128"),
        ("http://p3:3128",),
        ("DIRECT",),
    )
    assert parse_proxies(" http://p1:3128 | http://p1:3128 ; direct ") == (("http://p1:3128",), ("DIRECT",))
    assert parse_origins("http://s1/@repo@;https://s2/x/@repo@/", "r.example.org") == (
        "http://s1/r.example.org",
        "https://s2/x/r.example.org",
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        ";",
        "http://p1|",
        "p1:3128",
        "auto",
        "http://",
        "ftp://p",
        "http://p:99999",
        "http://[::",
        "a b",
        "http://p[::1]",
        "http://p[::1]u:s@[http",
        "http://[::1]x:1",
    ],
)
def test_bad_notation_says_how_to_write_it(text: str) -> None:
    with pytest.raises(UsageError, match=r"write it as http://|name the proxies"):
        parse_proxies(text)


def test_origins_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="repository's name"):
        parse_origins("http://s1/@repo@")
    with pytest.raises(UsageError, match="write it as"):
        parse_origins("http://s1/r;;http://s2/r")


def test_secrets_are_not_shown() -> None:
    assert redact("http://user:secret@host:1/path?token=secret") == "http://host:1/path"
    with pytest.raises(UsageError) as failure:
        parse_proxies("http://user:secret@host:99999")
    assert "secret" not in str(failure.value)
    with pytest.raises(UsageError, match=r"proxy '\.\.\.@host:3128': write it as") as failure:
        parse_proxies("user:secret@host:3128")
    assert "secret" not in str(failure.value)
    for text in ("http://user:se/secret@host", "x://http://user:secret@p:x", "host?token=secret", ":secret@"):
        with pytest.raises(UsageError) as failure:
            parse_proxies(text)
        assert "secret" not in str(failure.value)
    with pytest.raises(UsageError, match=r"origin '\.\.\.@@repo@/x': write it as"):
        parse_origins("a:secret@@repo@/x", "@repo@")


@given(st.text(alphabet="htp:/|;@repo1DIRECT[]% \n\0é"))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for parse in (parse_proxies, parse_origins):
        try:
            assert parse(text)
        except UsageError:
            pass
