"""Collected profiles are copied with their repository, and are checked as its objects are."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from lazyfs.core.digest import Digest
from lazyfs.core.reach import profile_at, profiles_at, walk
from lazyfs.core.trust.roles import PROFILES_FILE
from lazyfs.repository import delegation, keys
from lazyfs.repository.committed import read_committed
from lazyfs.repository.mirror import Mirror
from lazyfs.repository.mirror_removal import LEFT, MirrorReport
from lazyfs.repository.preload import Preload
from lazyfs.store import Store, reader
from lazyfs.store.directory import DirectoryStore
from lazyfs.sync.collecting.image_objects import LOOK
from tests.support.cli import lazyfs
from tests.support.reporting_site import PLACE, ReportingSite
from tests.support.repositories import NOW

OTHER = "r.example/other:1"


def collect(site: ReportingSite, place: str = PLACE, program: int = 0) -> None:
    """Makes a collected profile of three workers' reports, and publishes it."""
    for worker in range(3):
        site.collector.take(site.report(program, place=place), f"worker {program} {worker}")
    site.collector.publish()


def collect_other(site: ReportingSite) -> None:
    """Publishes a second image, and a collected profile for it."""
    site.publish(OTHER, 1)
    site.now += LOOK  # the collector looks for new images again
    collect(site, place=OTHER)


def other_key(site: ReportingSite) -> Callable[[], list[CryptoSigner]]:
    """Returns a function that makes another key for lists of profiles."""
    return lambda: keys.generate(str(site.directory / "other-key"), ["profiles"])


@pytest.fixture
def site(tmp_path: Path) -> ReportingSite:
    (tmp_path / "origin").mkdir()
    site = ReportingSite(tmp_path / "origin", programs=2)
    collect(site)
    return site


@pytest.fixture
def copy(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore.create(str(tmp_path / "copy"))


def mirror(site: ReportingSite, copy: DirectoryStore) -> MirrorReport:
    return Mirror(site.repository.store, copy).run()


def collected(store: Store) -> set[Digest]:
    """Returns the digests of the list, and of the profiles and hot packs below it. Raises NotFound if one of
    them is missing."""
    found = delegation.signed_list(store, read_committed(store).proven.targets)
    assert found is not None
    digests = {one.ref.digest for one in walk([profiles_at(found[1])], reader(store))}
    for digest in digests:
        store.get(digest)
    return digests


def test_a_copy_has_the_list_and_all_below_it(site: ReportingSite, copy: DirectoryStore) -> None:
    assert mirror(site, copy).problems == []
    assert len(collected(copy)) >= 3
    assert collected(copy) == collected(site.repository.store)
    again = mirror(site, copy)
    assert (again.objects, again.changed) == (0, False)


def test_a_list_that_is_newer_is_copied_without_a_new_revision(
    site: ReportingSite, copy: DirectoryStore
) -> None:
    mirror(site, copy)
    before = collected(copy)
    collect(site, program=1)
    report = mirror(site, copy)
    assert not report.changed
    assert report.objects == len(collected(copy) - before) >= 2
    assert collected(copy) == collected(site.repository.store)


def test_a_copy_keeps_a_newer_list_than_its_source_shows(site: ReportingSite, copy: DirectoryStore) -> None:
    store = site.repository.store
    older = store.read_metadata(PROFILES_FILE)
    assert older is not None
    collect(site, program=1)
    mirror(site, copy)
    newer = store.read_metadata(PROFILES_FILE)
    store.write_metadata(PROFILES_FILE, older, expected=newer)
    assert "older" in mirror(site, copy).problems[0]
    assert copy.read_metadata(PROFILES_FILE) == newer


def test_a_list_of_another_key_is_not_copied(site: ReportingSite, copy: DirectoryStore) -> None:
    repository = site.repository
    delegation.withdraw(repository.store, repository.keys, NOW)
    assert mirror(site, copy).problems == []  # nobody may sign a list: none is asked for
    assert copy.read_metadata(PROFILES_FILE) is None
    delegation.delegate(repository.store, repository.keys, other_key(site), NOW)
    (problem,) = mirror(site, copy).problems
    assert "not signed by a key that may sign profiles" in problem
    assert copy.read_metadata(PROFILES_FILE) is None


@pytest.mark.parametrize("damaged", ["profile", "hot pack"])
def test_a_lost_profile_stops_neither_the_revision_nor_the_other_profiles(
    site: ReportingSite, copy: DirectoryStore, damaged: str
) -> None:
    collect_other(site)
    store = site.repository.store
    listed = delegation.published_list(store)
    assert listed is not None
    first, second = listed.profiles
    lost, *packs = [one.ref for one in walk([profile_at(first.profile)], reader(store))]
    store.delete([packs[0].digest if damaged == "hot pack" else lost.digest])
    (problem,) = mirror(site, copy).problems
    assert "a collected profile is not copied" in problem
    assert not copy.has(first.profile.digest)
    assert copy.has(second.profile.digest)
    assert delegation.published_list(copy) == listed


def test_a_copy_deletes_the_profiles_that_its_list_names_no_longer(
    site: ReportingSite, copy: DirectoryStore
) -> None:
    mirror(site, copy)
    before = collected(copy)
    collect(site, program=1)
    site.publish(OTHER, 1)
    later = time.time() + 400 * LEFT  # the first revision is kept no longer
    copy.now = lambda: later  # type: ignore[method-assign]
    assert mirror(site, copy).problems == []
    assert collected(copy) == collected(site.repository.store)
    gone = before - collected(copy)
    assert gone
    assert not any(map(copy.has, gone))


def test_a_preload_brings_the_profiles_of_its_images(site: ReportingSite, copy: DirectoryStore) -> None:
    collect_other(site)
    listed = delegation.published_list(site.repository.store)
    assert listed is not None
    own = {one.profile.digest: one.image == site.image().top.digest for one in listed.profiles}
    Preload(site.repository.store, copy).take([PLACE])
    assert sorted(own.values()) == [False, True]
    assert {digest: copy.has(digest) for digest in own} == own
    Preload(site.repository.store, copy).take([PLACE, OTHER])
    assert collected(copy) == collected(site.repository.store)


def test_check_reads_the_collected_profiles(site: ReportingSite) -> None:
    store = site.repository.store
    path = str(site.repository.path)
    assert lazyfs("check", path).returncode == 0
    found = delegation.signed_list(store, read_committed(store).proven.targets)
    assert found is not None
    *_, pack = walk([profiles_at(found[1])], reader(store))
    store.delete([pack.ref.digest])
    done = lazyfs("check", path, check=False)
    assert done.returncode == 1
    assert f"collected profiles: pack {pack.ref.digest.hex()}" in done.stderr


def test_check_tells_of_a_list_that_no_worker_takes(site: ReportingSite) -> None:
    repository = site.repository
    delegation.withdraw(repository.store, repository.keys, NOW)
    assert lazyfs("check", str(repository.path)).returncode == 0
    delegation.delegate(repository.store, repository.keys, other_key(site), NOW)
    done = lazyfs("check", str(repository.path), check=False)
    assert done.returncode == 1
    assert "workers pass over it" in done.stderr
