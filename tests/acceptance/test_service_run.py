"""Five runs of a service over 60 images in three registries. The images share layers, and one has a layer
with a wrong digest. Tags are named by a pattern, move, or disappear. A registry needs an account, another is
down, another answers half of the requests with 429.

After each run the mounted tree is exactly the expected one, and the registries' logs show the expected
requests.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from lazyfs.sync.report import Report
from tests.support.cli import lazyfs, mounted, serving
from tests.support.oci_images import Built
from tests.support.service import ServiceSite, built, events_of
from tests.support.service_world import (
    BASES,
    DEAD,
    FAILING,
    HUB,
    PRIVATE,
    SITE,
    TAGS_ON_A_PAGE,
    WRONG,
    World,
    parts,
    service_world,
    site_of,
)

pytestmark = pytest.mark.root


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with service_world(tmp_path / "world") as world:
        world.lists["hub.yaml"] += [f"{DEAD}/no/one:1", f"{DEAD}/no/two:*"]
        yield world


@pytest.fixture
def service(tmp_path: Path, world: World) -> ServiceSite:
    return site_of(world, tmp_path / "service")


@pytest.fixture
def mount(tmp_path: Path, service: ServiceSite) -> Iterator[Path]:
    """Yields a mount of the repository, made before the first run."""
    keys = service.repository.path / "metadata/1.root.json"
    with (
        serving(service.repository.path) as url,
        mounted(url, tmp_path / "mnt", "--trust", keys, "--cache", tmp_path / "cache") as mount,
    ):
        yield mount


class Runs:
    """The runs of one service. Checks the requests and the tree of each run."""

    def __init__(self, world: World, service: ServiceSite, mount: Path) -> None:
        self.world, self.service, self.mount = world, service, mount
        self.failing = list(FAILING)
        self._known: set[str] = set()
        """Digests of the layers of all images so far, which the service need not read again."""
        self._before: dict[str, Built] = {}

    def run(self, new: list[Built], without: str = "no registry") -> Report:
        """Does one run and checks it. `new`: the images that it must read. `without`: the registry that does
        not answer."""
        self.world.asked()
        report = self.service.run(self.world.write_lists(self.service.directory))
        assert report.exit_code == 1
        lost = [one for one in self._before if one.startswith(without) and "tagged" not in one]
        failed = [name for name in events_of(report, "failed", "waiting") if not name.endswith("*")]
        assert failed == sorted([*self.failing, *lost])
        self._compare_requests(new, without)
        assert self.service.repository.check().bad == 0
        lazyfs("refresh", self.mount)
        self.world.compare(self.mount)
        self._before = dict(self.world.expected)
        return report

    def _compare_requests(self, new: list[Built], without: str) -> None:
        """Asserts that each tag has cost one HEAD, and the pattern one request for each page of tags. Each
        new image must have cost one request for its manifest, one for its config, and one for each new layer.
        Ignores the image with the wrong layer, which every run tries again."""
        asked = [line for line in self.world.asked() if line != f"HEAD {path_of(WRONG)} 200"]
        heads = sorted(line for line in asked if line.startswith("HEAD"))
        places = [place for place in self.world.expected if not place.startswith(without)]
        assert heads == sorted(f"HEAD {path_of(place)} 200" for place in places)
        pages = sum("/tags/list" in line for line in asked)
        assert pages == (0 if without == HUB else -(-10 // TAGS_ON_A_PAGE))
        read = Counter(
            line.rpartition("/")[2].partition(" ")[0]
            for line in asked
            if line.startswith("GET") and "/tags/list" not in line and "/team/wrong/" not in line
        )
        layers = {str(layer["digest"]) for image in new for layer in image.layer_descriptors}
        own = [str(one["digest"]) for image in new for one in (image.manifest, image.config)]
        assert read == Counter([*own, *(layers - self._known)])
        self._known |= layers


def path_of(place: str) -> str:
    """Returns the path of a tag's manifest at its registry."""
    _, repository, tag = parts(place)
    return f"/v2/{repository}/manifests/{tag}"


def test_five_runs(world: World, service: ServiceSite, mount: Path) -> None:
    runs = Runs(world, service, mount)
    assert len(world.expected) == 60
    assert runs.run(list(world.expected.values())).count("published") == 60
    assert world.doors[SITE].refused >= 2 * 19

    assert runs.run([]).unchanged == 60

    moved, fresh = built("moved", base=BASES[0]), built("tagged v3.0", base=BASES[1])
    gone, unwished = f"{SITE}/team/app3:3", f"{SITE}/team/app4:4"
    world.put(f"{HUB}/hub/app0:0", moved)
    world.put(f"{HUB}/hub/tagged:v3.0", fresh)
    world.delete(f"{HUB}/hub/tagged:v1.9")
    world.delete(gone)
    runs.failing.append(gone)
    report = runs.run([moved, fresh])
    assert (report.count("published"), report.count("moved"), report.count("removed")) == (1, 1, 2)

    late = built("moved while its registry is down", base=BASES[2])
    world.doors[HUB].down = True
    world.put(f"{HUB}/hub/app1:1", late, seen=False)
    world.lists["site.yaml"].remove(unwished)
    del world.expected[unwished]
    assert runs.run([], without=HUB).count("removed") == 1
    assert len(world.expected) == 58

    secret = built("moved secret", base=BASES[1])
    world.doors[HUB].down = False
    world.put(f"{PRIVATE}/secret/app1:1", secret)
    world.catch_up()
    world.instead["hub.yaml"] = "<html>Sign in</html>"
    assert runs.run([late, secret]).count("moved") == 2
