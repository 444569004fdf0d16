"""`lazyfs plan`, `convert` and `commit`: shards that communicate only through the store make the same
revision as one process, read no layer twice, and can be killed and run again."""

import json
import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from lazyfs.core.oci.manifest import Platform
from lazyfs.core.oci.reference import parse
from lazyfs.repository.collect import Collector
from lazyfs.repository.collection_state import read_state
from lazyfs.repository.keys import load
from lazyfs.store import open_store
from lazyfs.store.directory import DirectoryStore
from lazyfs.sync.conversion import ImageJob
from lazyfs.sync.plan import Plan, PlannedImage, read_plan, shard_of
from tests.support.cli import LAZYFS, lazyfs
from tests.support.fake_registry import fake_registry
from tests.support.many_images import IMAGES, Site, assert_each_layer_read_once, put_images
from tests.support.registry import RealRegistry
from tests.support.service import built


@pytest.fixture(scope="module")
def registry(real: RealRegistry) -> RealRegistry:
    put_images(real)
    return real


@pytest.fixture(scope="module")
def root(new: Path, registry: RealRegistry, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Returns the root catalog that a run in one process makes."""
    site = Site(new, tmp_path_factory.mktemp("one") / "site", registry)
    assert site.sync(None).count("published") == IMAGES
    return site.root


class LaterStore(DirectoryStore):
    """A store directory on a clock that is ahead."""

    def __init__(self, path: str, ahead: float) -> None:
        super().__init__(path)
        self._ahead = ahead

    def now(self) -> float:
        return super().now() + self._ahead


class PlannedSite(Site):
    """A site with a plan for all its images."""

    def plan(self) -> Path:
        done = lazyfs("plan", self.list, self.store, "--config", self.configuration)
        path = self.directory / "plan.json"
        path.write_text(done.stdout)
        return path

    def shard(self, number: int, shards: int) -> list[str | Path]:
        """Returns the command that converts a shard."""
        shard = f"{number}/{shards}"
        return [
            "convert",
            self.directory / "plan.json",
            "--shard",
            shard,
            self.store,
            "--config",
            self.configuration,
        ]

    def commit(self, *options: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        return lazyfs(
            "commit", self.directory / "plan.json", self.store, "--keys", self.directory / "keys",
            "--config", self.configuration, *options, check=check,
        )  # fmt: skip

    def left(self) -> list[str]:
        """Returns the names of the result files that shards have left in the store."""
        return [name for name in open_store(self.store).metadata_names() if name.startswith("conversion-")]


@pytest.fixture
def site(new: Path, registry: RealRegistry, tmp_path: Path) -> PlannedSite:
    return PlannedSite(new, tmp_path / "site", registry)


def test_shards_side_by_side_make_the_revision_that_one_process_makes(
    site: PlannedSite, registry: RealRegistry, root: str
) -> None:
    site.plan()
    registry.blobs_read()
    shards = [
        subprocess.Popen([*LAZYFS, *map(str, site.shard(number, 3))], stdout=subprocess.PIPE, text=True)
        for number in (1, 2, 3)
    ]
    said = [shard.communicate(timeout=100)[0] for shard in shards]
    assert_each_layer_read_once(registry)
    made = {line for text in said for line in text.splitlines() if line.startswith("converted ")}
    assert len(made) == IMAGES
    assert site.root != root
    assert f"{IMAGES} committed, 0 missing" in site.commit().stdout
    assert site.root == root
    assert site.left() == []
    assert read_state(open_store(site.store)).leases == ()
    lazyfs("check", site.store)


def test_shards_may_run_one_after_the_other(site: PlannedSite, registry: RealRegistry, root: str) -> None:
    site.plan()
    registry.blobs_read()
    codes = [lazyfs(*site.shard(number, 3), check=False).returncode for number in (3, 2, 1)]
    assert codes[-1] == 0
    assert_each_layer_read_once(registry)
    site.commit()
    assert site.root == root


def test_a_shard_that_was_killed_is_named_by_the_commit_and_can_be_run_again(
    site: PlannedSite, root: str
) -> None:
    site.plan()
    lazyfs(*site.shard(1, 2), check=False)
    with subprocess.Popen(
        [*LAZYFS, *map(str, site.shard(2, 2))], stdout=subprocess.PIPE, text=True
    ) as second:
        assert second.stdout is not None
        second.stdout.readline()
        second.send_signal(signal.SIGKILL)
    done = site.commit("--json", check=False)
    answer = json.loads(done.stdout)
    assert done.returncode == 1
    assert set(answer["missing"].values()) == {"no shard has converted it"}
    assert 0 < len(answer["committed"]) == IMAGES - len(answer["missing"])
    lazyfs("check", site.store)
    lazyfs(*site.shard(2, 2))
    assert f"{IMAGES} committed, 0 missing" in site.commit().stdout
    assert site.root == root


def test_a_collection_spares_what_shards_have_put_until_the_plan_is_over(site: PlannedSite) -> None:
    plan = site.plan()
    lazyfs(*site.shard(1, 2), check=False)
    store = open_store(site.store)
    objects = {stored.digest for stored in store.objects()}
    left = site.left()
    collected = lazyfs("gc", site.store, "--keys", site.directory / "keys", "--wait", "0")
    assert "0 objects deleted" in collected.stdout
    assert {stored.digest for stored in store.objects()} == objects
    assert site.left() == left != []

    later = read_plan(str(plan)).lease_seconds + 10
    abandoned = LaterStore(site.store, later)
    collector = Collector(
        abandoned,
        load(str(site.directory / "keys")),
        lambda: datetime.fromtimestamp(abandoned.now(), UTC),
        wait=0,
    )
    assert collector.run().deleted > 0
    assert site.left() == []
    refused = site.commit(check=False)
    assert refused.returncode == 2
    assert "not heard of" in refused.stderr


def test_a_plan_says_what_fails_and_what_is_there_already(site: PlannedSite, tmp_path: Path) -> None:
    site.list.write_text(site.list.read_text() + "  - 'https://registry.example/team/nobody:1'\n")
    done = lazyfs("plan", site.list, site.store, "--config", site.configuration, check=False)
    assert done.returncode == 1
    assert "failed registry.example/team/nobody:1: " in done.stderr
    (site.directory / "plan.json").write_text(done.stdout)
    assert lazyfs(*site.shard(1, 1)).returncode == 0
    committed = site.commit(check=False)
    assert committed.returncode == 1
    assert "missing registry.example/team/nobody:1: " in committed.stdout
    assert site.left() == []
    again = lazyfs("plan", site.list, site.store, "--config", site.configuration, check=False)
    assert f"0 to convert, {IMAGES} unchanged" in again.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["convert", "PLAN", "STORE", "--shard", "0/2"], "give I/N"),
        (["convert", "PLAN", "STORE", "--shard", "3/2"], "give I/N"),
        (["convert", "nothing.json", "STORE"], "plan nothing.json: No such file"),
        (["convert", "STORE/metadata/1.root.json", "STORE"], "give the output of lazyfs plan"),
        (["plan", "STORE"], "give at least one WISHLIST"),
    ],
)
def test_wrong_words_are_named(site: PlannedSite, words: list[str], said: str) -> None:
    plan = site.plan()
    words = [word.replace("STORE", site.store).replace("PLAN", str(plan)) for word in words]
    done = lazyfs(*words, check=False)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_image_that_fails_in_its_shard_fails_alone(new: Path, tmp_path: Path) -> None:
    with fake_registry() as registry:
        registry.add(built("a"), "1")
        registry.add(broken := built("b"), "2")
        site = PlannedSite(new, tmp_path / "site", RealRegistry(registry.host, tmp_path / "log"))
        site.list.write_text(
            "version: 1\ninput:\n" + "".join(f"  - 'https://registry.example/team/app:{n}'\n" for n in (1, 2))
        )
        site.plan()
        others = (broken.manifest["digest"], broken.config["digest"])
        (layer,) = (name for name in broken.blobs if name not in others)
        registry.blobs[layer] = bytes(len(broken.blobs[layer]))
        done = lazyfs(*site.shard(1, 1), check=False)
        assert done.returncode == 1
        assert "1 converted, 1 failed, 0 waiting" in done.stdout
        committed = site.commit(check=False)
        assert "missing registry.example/team/app:2: " in committed.stdout
        assert "1 committed, 1 missing" in committed.stdout
        registry.blobs[layer] = broken.blobs[layer]
        lazyfs(*site.shard(1, 1))
        assert "2 committed, 0 missing" in site.commit().stdout


names = st.sampled_from([f"{number:064x}" for number in range(12)])
layers = st.dictionaries(names, st.integers(0, 1 << 30), max_size=6)


@given(st.lists(layers, max_size=20), st.integers(1, 9))
def test_every_image_and_layer_has_one_shard(images: list[dict[str, int]], shards: int) -> None:
    reference = parse("registry.example/team/app:1")
    planned = [PlannedImage(ImageJob(reference, "sha256:" + "0" * 64), one) for one in images]
    plan = Plan(1, "r", "0" * 32, 1.0, Platform(), False, planned, {}, 0)
    image_shards, layer_shards = shard_of(plan, shards)
    assert len(image_shards) == len(images)
    assert set(image_shards) <= set(range(shards))
    assert set(layer_shards) == {diff_id for one in images for diff_id in one}
    for diff_id, shard in layer_shards.items():
        having = [image_shards[number] for number, one in enumerate(images) if diff_id in one]
        assert shard in having
    if len(images) >= shards and len({diff_id for one in images for diff_id in one}) == sum(map(len, images)):
        assert set(image_shards) == set(range(shards))
