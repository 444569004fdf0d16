"""The repositories that count as private, and the keys under which each of them caches objects of its own."""

import pytest

from lazyfs.client.private_cache import PrivateCache, cache_key
from lazyfs.core.digest import sha256
from lazyfs.daemon.private_repositories import is_private, namespace, state_key
from tests.support.memory_cache import MemoryCache


@pytest.mark.parametrize(
    ("url", "certificate", "private"),
    [
        ("/srv/store", False, False),
        ("/srv/a@b/store", True, False),
        ("http://server/repo", False, False),
        ("http://server/repo", True, False),  # a certificate is shown over TLS only
        ("https://server/repo", False, False),
        ("https://server/repo", True, True),
        ("https://user:password@server/repo", False, True),
        ("http://token@server/repo", False, True),
        ("https://server/repo?token=x", False, True),
        ("http://a/repo;https://user:password@b/repo", False, True),
        ("http://a/@repo@;http://b/@repo@", False, False),
        ("https://user:password@a/@repo@", False, True),
    ],
)
def test_what_takes_a_credential_is_private(url: str, *, certificate: bool, private: bool) -> None:
    assert is_private(url, "name", certificate=certificate) is private
    assert bool(namespace(url, "name", certificate=certificate)) is private


def test_repositories_of_one_server_and_credential_are_apart() -> None:
    """A stranger may publish a repository on the same server, behind the same password, as another publisher.
    The two repositories must not share cached objects."""
    url = "https://user:password@server/@repo@"
    assert namespace(url, "ours", certificate=False) != namespace(url, "theirs", certificate=False)
    assert state_key(url, "ours") != state_key(url, "theirs")
    plain = "http://server/repo"
    assert state_key(plain, "ours") == state_key(plain, "theirs"), "one repository, whatever a mount calls it"


def test_a_password_is_not_to_be_had_from_a_namespace() -> None:
    assert b"password" not in namespace("https://user:password@server/repo", "name", certificate=False)


def test_nothing_of_one_part_is_in_another() -> None:
    shared = MemoryCache()
    digest = sha256(b"secret")
    ours, theirs = PrivateCache(shared, b"ours"), PrivateCache(shared, b"theirs")
    assert ours.put(digest, b"secret")
    assert ours.get(digest) == ours.read(digest, 0, 6, 6) == b"secret"
    assert ours.read(digest, 0, 6, 5) is None
    for stranger in (theirs, shared):
        assert stranger.get(digest) is None
        assert stranger.read(digest, 0, 1) is None
    claim = ours.claim(digest)
    assert claim is not None
    with claim:
        assert ours.claim(digest) is None
        other = theirs.claim(digest)
        assert other is not None, "that it is being fetched is not to be learnt either"
        with other:
            pass
    assert cache_key(b"", digest) == digest
    assert len({cache_key(name, digest) for name in (b"", b"ours", b"theirs")}) == 3
