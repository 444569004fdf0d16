"""Reports of workers become profiles. The profile of a program lists what starts of this program touch. A
false report only changes a counter."""

import os
import random
import statistics
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazyfs.core.catalog.reader import Catalog, Directory
from lazyfs.core.digest import Digest, ObjectRef, object_path
from lazyfs.core.errors import UsageError
from lazyfs.core.profile import total
from lazyfs.core.start_reports.merge import MOST_BYTES, PART
from lazyfs.core.start_reports.report import StartReport, TouchedFile
from lazyfs.images.profiles.contents import ImageContents
from lazyfs.images.profiles.image_files import ImageFiles
from lazyfs.images.profiles.publish import profiled_tree, publish_profile
from lazyfs.repository import delegation
from lazyfs.repository import keys as key_files
from lazyfs.repository.collect import Collector
from lazyfs.repository.commit import read_committed
from lazyfs.repository.edit import Edit
from lazyfs.repository.removal import remove_images
from lazyfs.store import StoreError
from lazyfs.sync.collecting.image_objects import ImageObjects, RepositoryImages
from lazyfs.sync.collecting.reports import MOST_PROGRAMS, WRONG, Outcome, Reports, honest_sizes, restored
from tests.support.merged_starts import merged
from tests.support.reporting_site import OWN, PLACE, PROGRAMS, SHARED, SIZE, ReportingSite, objects_of
from tests.support.repositories import NOW

LONG_TIME = 1e9


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReportingSite, list[StartReport]]:
    """Returns a site and the reports that its collector has counted. Each of 50 workers has reported starts
    of five of the 50 programs. Each start also read a random file that hardly any other start read. The
    profiles are published."""
    site = ReportingSite(tmp_path_factory.mktemp("site"), size=24_000)
    rng = random.Random(2)
    reports = []
    for worker in range(PROGRAMS):
        for program in ((worker + further) % PROGRAMS for further in (0, 1, 7, 13, 29)):
            reports.append(site.report(program, [f"unread/{rng.randrange(SHARED)}"]))
            assert site.collector.take(reports[-1], f"worker {worker}") is Outcome.COUNTED
    assert site.collector.publish().images == 1
    return site, reports


def test_each_of_50_programs_is_served_within_1_15_of_its_own_profile(
    reported: tuple[ReportingSite, list[StartReport]],
) -> None:
    """For one start of each program, adds the bytes of the collected profile and of the touched objects that
    the profile lacks. The sum is at most 1.15 times the bytes that the start touched, catalogs included. The
    profile lacks at most one file."""
    site, reports = reported
    made = site.listed()
    assert made is not None
    image = site.image()
    ratios = []
    for report in reports[::5]:  # one start of each program
        touched = ImageContents(site.tree(), image.top).resolve(objects_of(report))
        own = {ref.digest: ref.size for ref, _ in touched}
        brought = made.of(report.program.decode())
        hot = {pack.ref: pack.files for pack in made.packs}
        here = {file.digest for ref in brought for file in hot.get(ref, (ref,))}
        missed = own.keys() - here
        served = total(brought) + sum(own[digest] for digest in missed)
        assert served <= 1.15 * sum(own.values())
        assert len(missed) <= 1, "a file that hardly another start read"
        ratios.append(served / sum(own.values()))
    assert len({report.program for report in reports[::5]}) == PROGRAMS
    assert 1 <= statistics.median(ratios) <= 1.15


def test_publishing_makes_no_revision_and_the_same_again_nothing(
    reported: tuple[ReportingSite, list[StartReport]],
) -> None:
    site, _ = reported
    revision, files = site.revision(), site.repository.files()
    again = site.collector.publish()
    assert (again.images, again.made, again.changed) == (1, 0, False)
    assert len(site.programs()) == PROGRAMS
    assert site.revision() == revision
    assert site.repository.files() == files


def test_a_new_collector_goes_on_where_the_last_one_was(
    reported: tuple[ReportingSite, list[StartReport]],
) -> None:
    site, reports = reported
    other = site.start()
    assert other.outcomes() == site.collector.outcomes()
    assert other.take(reports[0], "worker 0") is Outcome.REPEATED
    assert not other.publish().changed
    with pytest.raises(UsageError, match=r"test\.example\.org"):
        restored((site.directory / "state/reports").read_bytes(), "other.example")
    with pytest.raises(UsageError, match="cannot be read"):
        restored(b"damaged", "test.example.org")


def lies(site: ReportingSite, reports: list[StartReport]) -> dict[str, tuple[StartReport, str, Outcome]]:
    """Returns name of a lie -> (the false report, the reporter who sends it, the expected outcome)."""
    true = reports[0]
    many = tuple(TouchedFile(b"none/%d" % at, (true.image,)) for at in range(20_000))
    other = site.report(0, place="r.example/other:1")
    swapped = tuple(
        TouchedFile(mine.path, its.objects) for mine, its in zip(true.touched, other.touched, strict=False)
    )
    change: dict[str, dict[str, Any]] = {
        "as many paths as a report may have": {"touched": many},
        "objects of another image": {"touched": swapped},
        "another image's top": {"image": other.image, "touched": true.touched},
        "an image that is none": {"image": bytes(32)},
        "another repository": {"repository": "other.example.org"},
        "a program that is none": {"program": b"bin/none"},
        "a file that nobody runs": {"program": b"shared/0"},
    }
    made = {
        name: (msgspec.structs.replace(true, **one), "liar", Outcome.WRONG) for name, one in change.items()
    }
    for name in ("an image that is none", "another repository"):
        made[name] = (*made[name][:2], Outcome.UNKNOWN)
    return made | {"a repetition": (true, "worker 0", Outcome.REPEATED)}


def test_lies_change_a_counter_and_nothing_else(tmp_path: Path) -> None:
    site = ReportingSite(tmp_path, programs=2)
    site.publish("r.example/other:1", 2)
    reports = [site.report(0) for _ in range(3)]
    for worker, report in enumerate(reports):
        assert site.collector.take(report, f"worker {worker}") is Outcome.COUNTED
    site.collector.publish()
    files = {path: path.read_bytes() for path in site.repository.files()}
    counted = site.collector.outcomes()
    for name, (report, sender, outcome) in lies(site, reports).items():
        for _ in range(10):
            assert site.collector.take(report, sender) is outcome, name
    assert not site.collector.publish().changed
    assert {path: path.read_bytes() for path in site.repository.files()} == files
    now = site.collector.outcomes()
    assert {name: count for name, count in now.items() if count != counted.get(name)} == {
        Outcome.WRONG: 50, Outcome.UNKNOWN: 20, Outcome.REPEATED: 10,
    }  # fmt: skip


class _Counted:
    """An image of small files, and of large files that have chunk lists. Each file has one object, whose
    digest begins with its path."""

    def __init__(self) -> None:
        self.lists = 0

    def is_program(self, path: bytes) -> bool:
        return True

    def sizes_at_hand(self, path: bytes) -> dict[Digest, int] | None:
        return None if path.startswith(b"large") else {_object(path): 1}

    def sizes(self, path: bytes) -> dict[Digest, int]:
        self.lists += 1
        return {_object(path): 1}


def _object(path: bytes) -> Digest:
    return Digest(path.ljust(32, b"-"))


def _lists_read(*named: tuple[bytes, bytes]) -> tuple[int, list[Digest]]:
    """Returns (the number of chunk lists that were read, the objects that count) for a report. `named`: pairs
    of a path and the path of the file whose object the report names there."""
    touched = tuple(TouchedFile(path, (_object(other),)) for path, other in named)
    image = _Counted()
    found = honest_sizes(StartReport(1, "r.example", bytes(32), b"p", touched), image)  # type: ignore[arg-type]
    return image.lists, [*found]


def test_a_false_report_costs_hardly_a_chunk_list() -> None:
    large = [(b"large %d" % at, b"large %d" % at) for at in range(90)]
    lies = [(b"small %d" % at, b"none") for at in range(11)]
    assert _lists_read(*large, *lies) == (0, [])
    assert _lists_read(*((path, b"none") for path, _ in large)) == (WRONG * 90 + 1, [])
    true = [*large[:50], (b"small", b"small"), *large[50:]]
    assert _lists_read(*true, *lies[:9]) == (90, [_object(path) for path, _ in true])


def test_only_a_long_chunk_list_is_not_at_hand_and_no_link_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = ReportingSite(tmp_path, programs=1)
    tree = tmp_path / "tree"
    tree.mkdir()
    for name, size in (("small", 100), ("some", 3 << 20), ("many", 40 << 20)):
        with (tree / name).open("wb") as file:
            file.truncate(size)
    (tree / "link").symlink_to("small")
    site.repository.publish(f"dir:{tree}", place="tree")
    images = RepositoryImages(site.repository.store)
    image = images.find(profiled_tree(images.tree, "tree")[1].digest, site.now)
    assert isinstance(image, ImageObjects)
    assert image.sizes_at_hand(b"many") is None
    assert image.sizes(b"many")
    for there in (b"small", b"some"):
        assert image.sizes_at_hand(there) == image.sizes(there) != {}
    for foreign in (b"link", b"none", b"link/none"):
        assert image.sizes_at_hand(foreign) == image.sizes(foreign) == {}
    looked: list[int] = []
    directory = Catalog.directory

    def counted(catalog: Catalog, number: int) -> Directory:
        looked.append(number)
        return directory(catalog, number)

    monkeypatch.setattr(Catalog, "directory", counted)
    image.sizes_at_hand(b"link")
    assert len(looked) == 1


def test_others_are_refused_and_counted_while_a_report_is_compared_with_its_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = ReportingSite(tmp_path, programs=2)
    collector, report, repeated = site.collector, site.report(0), site.report(1)
    collector.take(repeated, "worker")
    done: list[object] = []

    def others() -> None:
        collector.refused("stranger")
        done.append(collector.may_report("other"))
        done.append(collector.take(repeated, "worker"))
        done.append(collector.outcomes()["refused: stranger"])

    def slow(*_: object) -> None:
        thread = threading.Thread(target=others, daemon=True)
        thread.start()
        thread.join(60)

    monkeypatch.setattr(collector._images, "find", slow)
    assert collector.take(report, "worker") is Outcome.UNKNOWN
    assert done == [True, Outcome.REPEATED, 1]


def test_what_liars_with_a_voice_waste_is_bounded(tmp_path: Path) -> None:
    """A reporter who is allowed to report may claim that a start touched the whole image. While fewer than a
    third of the reports of a program do so, its profile does not change. While fewer than half do, the
    profile has at most twice the bytes of a start."""
    site = ReportingSite(tmp_path, programs=8)
    unread = [f"unread/{at}" for at in range(SHARED)]
    all_of_it = unread + [f"own/{number}/{at}" for number in range(1, 8) for at in range(OWN)]
    honest, lie = site.report(0), site.report(0, all_of_it)
    for worker in range(7):
        site.collector.take(honest, f"worker {worker}")
    site.collector.publish()
    members = site.programs()["bin/p0"]
    for liar in range(3):
        assert site.collector.take(lie, f"liar {liar}") is Outcome.COUNTED
    assert not site.collector.publish().changed
    for liar in range(3, 6):
        site.collector.take(lie, f"liar {liar}")
    site.collector.publish()
    more = site.programs()["bin/p0"]
    assert more > members
    start = SIZE * len(honest.touched)
    assert SIZE * len(more & set(objects_of(lie))) <= MOST_BYTES * start
    assert set(objects_of(honest)) <= more


def test_programs_that_too_few_reported_have_no_profile(tmp_path: Path) -> None:
    """A single reporter reports so many programs that the collector reaches its limit. None of them gets a
    profile, and the programs that enough workers reported keep theirs."""
    site = ReportingSite(tmp_path, programs=MOST_PROGRAMS + 3)
    for worker in range(3):
        for program in range(2):
            site.collector.take(site.report(program), f"worker {worker}")
    image = site.image()
    own = site.report(0)
    for program in range(2, MOST_PROGRAMS + 3):
        made_up = StartReport(1, own.repository, own.image, b"bin/p%d" % program, own.touched)
        assert image.is_program(made_up.program)
        assert site.collector.take(made_up, "liar") is Outcome.COUNTED
    site.collector.publish()
    assert set(site.programs()) == {"bin/p0", "bin/p1"}
    assert len([*site.collector._reports.programs(1)]) == MOST_PROGRAMS


OTHER = "r.example/other:1"


def damage(site: ReportingSite, place: str) -> None:
    """Deletes the pack of a file that each start of an image's first program reads."""
    files = ImageFiles(site.tree(), site.image(place).top)
    found = files.file(b"own/0/0")
    assert found is not None
    pack = found.entry.place(found.packs)
    assert pack is not None
    (site.repository.path / object_path(pack.ref.digest)).unlink()


def listed(site: ReportingSite) -> dict[Digest, ObjectRef]:
    """Returns the published profiles by the digests of their images' top catalogs."""
    found = delegation.published_list(site.repository.store)
    return dict(found.profiles) if found else {}


@pytest.mark.parametrize("was_listed", [True, False])
def test_a_damaged_image_keeps_its_profile_and_those_of_others_are_made(
    tmp_path: Path, was_listed: bool
) -> None:
    site = ReportingSite(tmp_path, programs=1, least=1)
    site.publish(OTHER, 1)
    whole, damaged = (site.image(place).top.digest for place in (PLACE, OTHER))
    if was_listed:
        collector = site.start()
        for place in (PLACE, OTHER):
            collector.take(site.report(0, place=place), "worker 1")
        assert collector.publish().images == 2
    before = listed(site)
    damage(site, OTHER)
    collector = site.start()  # one that has read nothing yet
    for place in (PLACE, OTHER):
        collector.take(site.report(0, ["unread/0"], place), "worker 2")
    published = collector.publish()
    assert len(published.faults) == 1
    assert collector._published.path_of(damaged) in published.faults[0]
    now = listed(site)
    assert now[whole] != before.get(whole)
    assert now.get(damaged) == before.get(damaged)
    assert len(now) == published.images == 1 + was_listed
    again = collector.publish()
    assert (again.changed, again.faults) == (False, ()), "the same is said once"


def test_a_store_that_fails_ends_the_publication(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = ReportingSite(tmp_path, programs=1, least=1)
    site.collector.take(site.report(0), "worker")

    def broken(*_: object) -> None:
        raise StoreError("the disk is gone")

    monkeypatch.setattr(site.collector._published, "find", broken)
    with pytest.raises(StoreError):
        site.collector.publish()
    assert site.listed() is None


def test_a_profile_made_by_hand_stays_the_only_one(tmp_path: Path) -> None:
    site = ReportingSite(tmp_path, programs=1)
    report = site.report(0)
    for worker in range(3):
        site.collector.take(report, f"worker {worker}")
    repository = site.repository
    touched = {"": objects_of(report)}
    publish_profile(repository.store, repository.keys, PLACE, touched, lambda: NOW)
    site.now += LONG_TIME  # the collector looks for a newer revision
    assert site.collector.publish().images == 0
    assert site.listed() is None


def test_reports_of_an_image_that_is_gone_are_forgotten(tmp_path: Path) -> None:
    site = ReportingSite(tmp_path, programs=1)
    for worker in range(3):
        site.collector.take(site.report(0), f"worker {worker}")
    assert site.collector.publish().images == 1
    with Edit(site.repository.store, site.repository.keys, lambda: NOW) as edit:
        edit.apply(lambda tree: remove_images(tree, [PLACE]))
        edit.commit()
    site.now += LONG_TIME
    assert site.collector.publish().images == 0
    assert site.listed() is None
    assert site.collector._reports.images() == []


def test_a_collection_of_garbage_keeps_what_the_list_leads_to(tmp_path: Path) -> None:
    site = ReportingSite(tmp_path, programs=1)
    for worker in range(3):
        site.collector.take(site.report(0), f"worker {worker}")
    site.collector.publish()
    repository = site.repository

    def gc() -> int:
        later = NOW.timestamp() + 10
        store = repository.store
        store.now = lambda: later  # type: ignore[method-assign]
        return Collector(store, repository.keys, lambda: NOW, wait=0).run().deleted

    for path in repository.files():
        os.utime(path, (NOW.timestamp() - 100,) * 2)
    assert gc() == 0
    assert site.programs()["bin/p0"] >= set(objects_of(site.report(0)))
    delegation.withdraw(repository.store, repository.keys, NOW)
    assert gc() >= 3  # the list, the profile, its hot pack
    assert repository.check().bad == 0


def test_a_key_that_may_not_sign_publishes_nothing(tmp_path: Path) -> None:
    site = ReportingSite(tmp_path, programs=1)
    for worker in range(3):
        site.collector.take(site.report(0), f"worker {worker}")
    delegation.withdraw(site.repository.store, site.repository.keys, NOW)
    with pytest.raises(UsageError, match="may sign profiles"):
        site.collector.publish()
    assert site.listed() is None
    # with a publisher's next revision the delegation stays as it is
    delegation.delegate(
        site.repository.store,
        site.repository.keys,
        lambda: key_files.generate(str(tmp_path / "second"), ["profiles"]),
        NOW,
    )
    site.publish("r.example/next:1", 1)
    assert len(delegation.delegated_keys(read_committed(site.repository.store).proven.targets)) == 1


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=40))
def test_the_state_is_the_merge_of_what_was_counted(sent: list[tuple[int, int]]) -> None:
    """The saved and restored state equals the pure function `merged` over the counted starts. Each reporter
    counts once for a program, in whatever order the reports come."""
    image = _Image()
    reports = Reports("r.example")
    first: dict[tuple[int, int], None] = {}
    for program, worker in sent:
        report = image.report(program, worker)
        outcome = reports.take(report, f"worker {worker}", honest_sizes(report, image))  # type: ignore[arg-type]
        assert outcome is (Outcome.REPEATED if (program, worker) in first else Outcome.COUNTED)
        first[program, worker] = None
    reports = restored(reports.save(), "r.example")
    for key, one in reports.programs(1):
        number = int(key.program[1:])
        starts = [objects_of(image.report(number, worker)) for at, worker in first if at == number]
        assert one.kept() == merged(starts, lambda _: 10)
        assert len(one.reporters) == one.voices.starts == len(starts)
    assert {key.program for key, _ in reports.programs(PART)} <= {b"p%d" % at for at, _ in first}


class _Image:
    """An image in which every path is a program, and every object lies at each path."""

    def sizes_at_hand(self, path: bytes) -> "_All":
        return _All()

    def is_program(self, path: bytes) -> bool:
        return path.startswith(b"p")

    def report(self, program: int, worker: int) -> StartReport:
        rng = random.Random(f"{program} {worker}")
        objects = tuple(bytes([at]) * 32 for at in rng.sample(range(20), 8))
        return StartReport(1, "r.example", bytes(32), b"p%d" % program, (TouchedFile(b"p", objects),))


class _All(dict[bytes, int]):
    def __contains__(self, _: object) -> bool:
        return True

    def __missing__(self, _: bytes) -> int:
        return 10
