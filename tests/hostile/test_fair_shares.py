"""A program reads a hostile repository of many times the cache's size once. Beside it is an honest
repository, whose working set is smaller than its share of the cache."""

import os
from pathlib import Path

import pytest

from lazyfs.daemon.session_choice import KINDS
from tests.support.counts import count
from tests.support.hostile_site import honest_repository, mounted
from tests.support.images import image, live
from tests.support.repository import Published

pytestmark = pytest.mark.root

LIMIT = 24 << 20
STREAMED = count(8, 100) * LIMIT
"""Bytes read from the hostile repository: 2.3 GiB in the long tier."""


def _large_repository(directory: Path) -> Published:
    made = Published(directory, "hostile.example.org")
    files = {f"f{number}": os.urandom(4 << 20) for number in range(STREAMED >> 22)}
    made.commit(live(made.objects, {"lab": {"a:1": image(made.objects, files)}}))
    return made


@pytest.mark.timeout(count(120, 1200))
@pytest.mark.parametrize("session", KINDS)
@pytest.mark.parametrize("policy", ["lru", "sieve"])
def test_what_the_honest_one_uses_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session: str, policy: str
) -> None:
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / "run").mkdir(mode=0o700)
    honest, hostile = honest_repository(tmp_path / "honest"), _large_repository(tmp_path / "hostile")
    options = ("--cache-limit", str(LIMIT), "--cache-policy", policy)
    with mounted(tmp_path, session, honest, hostile, *options) as site:
        before = {path: found[1:] for path, found in site.honest().items()}  # without inode numbers
        cached = site.cached()
        assert len(cached) > 30
        read = 0
        for directory, _, files in os.walk(site.mnt / "hostile/lab"):
            for name in files:
                read += len(Path(directory, name).read_bytes())
        assert read >= STREAMED
        assert cached <= site.cached(), "objects of the honest repository were pushed out"
        assert {path: found[1:] for path, found in site.honest().items()} == before
