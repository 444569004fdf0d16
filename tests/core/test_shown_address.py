"""No account, signature or token of an address is shown; what names the server and the file is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.shown_address import shown_address, shown_source

DIGEST = f"@sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://host/x.sif", "https://host/x.sif"),
        ("https://host:8443/a/x.sif?X-Amz-Signature=word&b=c#d", "https://host:8443/a/x.sif"),
        ("https://me:word@host/x.sif", "https://host/x.sif"),
        ("https://me:wo/rd@host/x.sif", "https://host/x.sif"),
        ("https://me:wo?rd@host/x.sif", "https://host/x.sif"),
        ("https://me:wo#r@d@host/x.sif?s=word", "https://host/x.sif"),
        ("https://me:word@[::1]:5000/x", "https://[::1]:5000/x"),
        ("https://[::1]:5000/x?s=a@word", "https://[::1]:5000/x"),
        ("http://me:word@host", "http://host"),
        ("https://me:word@host/to?next=http://b", "https://host/to"),
        ("tar:https://me:word@host/x.tar?s=word", "tar:https://host/x.tar"),
        ("docker://me:word@host/app:1", "docker://host/app:1"),
        (f"docker://me:word@host/app{DIGEST}", f"docker://host/app{DIGEST}"),
        (f"docker://host:5000/app:1{DIGEST}", f"docker://host:5000/app:1{DIGEST}"),
        ("me:word@host/app:1", "host/app:1"),
        (f"host/app:1{DIGEST}", f"host/app:1{DIGEST}"),
        ("team@site/app", "team@site/app"),
        ("software/c#:1", "software/c#:1"),
        ("host/x.sif?X-Amz-Signature=word", "host/x.sif"),
        ("manifests/1?n=100", "manifests/1"),
        ("a\nb", "a b"),
        ("", ""),
    ],
)
def test_what_is_shown_of_an_address(text: str, shown: str) -> None:
    assert shown_address(text) == shown_source(text) == shown


@pytest.mark.parametrize("text", ["/home/me@site/a?b", "oci:/home/me@site/layout:@2", "dir:a#b", "./a:b@c"])
def test_the_path_of_a_file_is_shown_whole(text: str) -> None:
    assert shown_source(text) == text


@given(
    st.text(st.sampled_from("ab:/?#@%. ")),
    st.sampled_from(["https://me:{}@host/x", "docker://me:{}@host/x", "https://host/x?s={}"]),
)
def test_a_password_is_hidden_whatever_is_in_it(noise: str, form: str) -> None:
    shown = shown_address(form.format(f"word{noise}word"))
    assert "word" not in shown or "@" in noise or " " in noise
