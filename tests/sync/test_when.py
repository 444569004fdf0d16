"""`lazyfs when` for images that are published, wait, have failed, or are not wished; on the service's machine
and on others."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lazyfs.core.wishlist.patterns import stars
from lazyfs.repository.commit import read_revision
from lazyfs.repository.stored_history import read_history
from lazyfs.store import reader
from lazyfs.sync.acknowledged import Acknowledged, Acknowledgement
from lazyfs.sync.quotas import Quota
from tests.support.cli import lazyfs, new_repository, serving
from tests.support.registry import RealRegistry
from tests.support.repositories import NOW
from tests.support.service import ServiceSite, built


@pytest.fixture(scope="module")
def registry(real: RealRegistry) -> RealRegistry:
    return real


@pytest.fixture
def site(tmp_path: Path, registry: RealRegistry) -> ServiceSite:
    return made(tmp_path / "site", registry, NOW)


def made(directory: Path, registry: RealRegistry, clock: datetime) -> ServiceSite:
    """Returns a service that has published two images in two runs, and could not publish two other wishes."""
    site = ServiceSite(directory, {"docker.io": registry.host, "r.example": registry.host}, clock)
    registry.put(built("first"), "library/alpine", "3.10")
    registry.put(built("second"), "team/second", "1")
    site.wish("https://registry.hub.docker.com/library/alpine:3.10")
    site.run()
    site.list.write_text(
        "lazyfs: 1\ndefaults: {owner: atlas}\nimages:\n  - docker.io/library/alpine:3.10\n"
        "  - r.example/team/second:1\n  - r.example/team/none:1\n  - r.example/team/many:v*\n"
    )
    site.run()
    return site


def when(site: ServiceSite, name: str, store: str | Path | None = None, *options: str) -> tuple[int, str]:
    arguments = ["when", name, str(store or site.repository.path), "--status-dir", str(site.status), *options]
    done = lazyfs(*arguments, check=False)
    return done.returncode, done.stdout + done.stderr


def test_of_an_image_that_is_there(site: ServiceSite) -> None:
    digest = site.state().images["docker.io/library/alpine:3.10"].digest
    for name in ("library/alpine:3.10", "alpine:3.10", "registry.hub.docker.com/library/alpine:3.10"):
        code, said = when(site, name)
        assert code == 0
        assert said.startswith("docker.io/library/alpine:3.10: published\n")
        assert "visible on workers since revision 2 of 2026-01-01 01:00 UTC\n" in said
        assert digest in said
        assert f"wished in {site.list} line 4 (docker.io/library/alpine:3.10), owner atlas" in said
    assert "since revision 3 of" in when(site, "r.example/team/second:1")[1]


def test_of_one_that_failed(site: ServiceSite) -> None:
    code, said = when(site, "r.example/team/none:1")
    assert code == 1
    assert said.startswith("r.example/team/none:1: failed\n")
    assert "failed once since 2026-01-01 02:00 UTC: " in said
    assert "next try from 2026-01-01 02:15 UTC" in said
    site.run()
    assert "failed 2 times" in when(site, "r.example/team/none:1")[1]


def test_who_has_acknowledged_a_failure_and_what_its_owner_uses(site: ServiceSite) -> None:
    until = datetime(2027, 1, 1, tzinfo=UTC).date()
    known = Acknowledgement("*:1", stars("*:1"), until, "anna", "ticket 4711")
    quotas = {"*": Quota(images=200)}
    site.run(acknowledged=Acknowledged([known], site.clock.date), quotas=quotas)
    code, said = when(site, "r.example/team/none:1")
    assert code == 1
    assert "  acknowledged until 2027-01-01 by anna: ticket 4711\n" in said
    assert "  owner atlas has 2 of 200 images, " in said
    found = json.loads(when(site, "r.example/team/none:1", None, "--json")[1])
    assert found["condition"]["acknowledged"] == {
        "until": "2027-01-01", "by": "anna", "reason": "ticket 4711",
    }  # fmt: skip
    assert found["quotas"]["atlas"]["most_images"] == 200
    said = when(site, "r.example/team/second:1")[1]
    assert "acknowledged until" not in said
    assert "  owner atlas has 2 of 200 images, " in said
    assert "owner atlas has 2 of 200" in when(site, "r.example/team/many:v2")[1], "wished, not read yet"


def test_of_one_that_a_pattern_means_and_of_one_that_nobody_wishes(site: ServiceSite) -> None:
    code, said = when(site, "r.example/team/many:v2")
    assert code == 1
    assert "waiting for the next run" in said
    assert "line 7 (r.example/team/many:v*)" in said
    code, said = when(site, "r.example/team/many:x2")
    assert code == 1
    assert "not published" in said
    assert "no list wishes it" in said


def test_from_another_machine(tmp_path: Path, registry: RealRegistry) -> None:
    site = made(tmp_path / "site", registry, datetime.now(UTC) - timedelta(hours=8))
    root = site.repository.path / "metadata/1.root.json"
    options = ["--status-dir", str(tmp_path / "nowhere"), "--cache", str(tmp_path / "cache")]
    with serving(site.repository.path) as url:
        untrusted = when(site, "r.example/team/second:1", url, *options)
        assert untrusted[0] != 0
        assert "--trust" in untrusted[1]
        code, said = when(site, "r.example/team/second:1", url, *options, "--trust", str(root))
        assert code == 0
        assert "published\n" in said
        assert "since revision 3 of" in said
        assert "known where the service runs" in said
        assert when(site, "r.example/team/none:1", url, *options)[0] == 1, "what was trusted once is trusted"
        found = json.loads(lazyfs("when", "alpine:3.10", url, *options, "--json").stdout)
    assert found["published"]["revision"] == 2
    assert found["published"]["certain"]
    code, said = when(site, "x:1", "http://127.0.0.1:9/none", *options, "--trust", str(root))
    assert code == 1
    assert said.count("\n") == 1


def test_an_origin_that_others_have_signed_is_not_believed(tmp_path: Path, registry: RealRegistry) -> None:
    site = made(tmp_path / "site", registry, datetime.now(UTC) - timedelta(hours=8))
    _, other_keys = new_repository(tmp_path, "other.example.org")
    root = other_keys.parent / "store/metadata/1.root.json"
    options = ["--cache", str(tmp_path / "cache"), "--trust", str(root)]
    with serving(site.repository.path) as url:
        code, said = when(site, "alpine:3.10", url, *options)
    assert code != 0
    assert "published" not in said
    assert said.count("\n") == 1


def test_of_an_image_that_is_older_than_what_is_kept(site: ServiceSite) -> None:
    """A garbage collection has deleted the older revisions, but the history still has their numbers."""
    store = site.repository.store
    older = [past.root for past in read_history(store, read_revision(store)).newest_first(reader(store))][1:]
    store.delete([ref.digest for ref in older])
    code, said = when(site, "alpine:3.10")
    assert code == 0
    assert "visible on workers since revision 3 of 2026-01-01 02:00 UTC or before\n" in said


def test_a_damaged_state_is_one_clear_line(site: ServiceSite) -> None:
    for damage, said in (
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"version": 2}', "upgrade lazyfs"),
        ('{"version": 1, "repository": "other.example.org"}', "it is of other.example.org"),
        ('{"version": 1, "images": {"a": 5}}', "damaged"),
    ):
        (site.status / "state.json").write_text(damage)
        code, text = when(site, "alpine:3.10")
        assert code == 2
        assert said in text
        assert text.count("\n") == 1
