"""Publisher, embedded origin and client together, over real HTTP."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lazyfs.client.trust.anchor import read_anchor
from lazyfs.client.trust.revisions import Revisions
from lazyfs.core import codec
from lazyfs.core.digest import ref_of
from lazyfs.core.errors import TransportError
from lazyfs.core.params import Revision
from lazyfs.repository import keys as key_files
from lazyfs.repository import lifecycle
from lazyfs.repository.commit import commit_revision, read_revision
from lazyfs.store.directory import DirectoryStore
from lazyfs.store.origin_server import Origin
from lazyfs.transport.open import open_fetcher


class Site:
    """A store, its keys, and the server in front of it."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "store")
        self.keys = str(directory / "keys")
        self.fresh = lifecycle.init(self.path, "test.example.org", datetime.now(UTC), keys=self.keys)
        self.store = DirectoryStore(self.path)
        self.origin = Origin(self.path)

    def publish(self) -> Revision:
        revision = read_revision(self.store).number
        plain = b"catalog %d" % revision
        ref = ref_of(plain)
        self.store.put(ref.digest, codec.encode(plain))
        return commit_revision(
            self.store, key_files.load(self.keys), ref, expected_revision=revision, now=datetime.now(UTC)
        )

    def rotate(self, role: str) -> None:
        new = key_files.generate(self.keys, [role])
        dead = lifecycle.rotate(
            self.store, role, lambda: new, 1, key_files.load(self.keys), datetime.now(UTC)
        )
        key_files.retire(self.keys, dead)

    def requests(self) -> int:
        return self.origin.counters.requests()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    with site.origin.running():
        yield site


def refresh(client: Revisions) -> Revision:
    return client.refresh(datetime.now(UTC), time.monotonic() + 20)


def test_a_client_lives_through_publishing_rotations_and_the_death_of_its_server(
    site: Site, tmp_path: Path
) -> None:
    fetcher = open_fetcher(site.origin.url)
    state = str(tmp_path / "trust")
    client = Revisions(fetcher, state, read_anchor(site.fresh.fingerprint.hex()))
    assert refresh(client) == site.fresh.revision
    assert site.requests() == 5
    refresh(client)
    assert site.requests() == 6
    assert refresh(client) == site.fresh.revision
    published = site.publish()
    assert refresh(client) == published
    for role in ("timestamp", "targets", "root"):
        site.rotate(role)
        assert refresh(client) == published
    published = site.publish()
    assert refresh(client) == published
    fetcher.close()
    site.origin.server_close()  # new connections are refused from here on
    dead = open_fetcher(site.origin.url)
    anchor = read_anchor(os.path.join(site.path, "metadata", "1.root.json"))
    restarted = Revisions(dead, state, anchor)
    assert restarted.offline(datetime.now(UTC)) == published
    with pytest.raises(TransportError):
        restarted.refresh(datetime.now(UTC), time.monotonic() + 1)
    assert restarted.serving(datetime.now(UTC)) == published
    dead.close()
