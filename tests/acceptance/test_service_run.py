"""A service over five runs: registries with shared layers, patterns, moved and deleted tags, an account, a
registry that is down, one that answers 429 half the time, a wrong digest.

After each run the tree is exactly the expected one, and the registries' logs show the expected requests.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lazyfs.sync.settings import RegistrySettings
from tests.support.fake_registry import FakeRegistry, fake_registry
from tests.support.oci_images import Built, entry, layer
from tests.support.registry import RealRegistry, real_registry
from tests.support.service import ServiceSite, built, config_of, events_of

BASES = [layer(*[entry(f"base{n}-{m}", data=b"%d" % m * 3000) for m in range(20)]) for n in range(2)]
SPREAD = 7
"""Exact tags in each of the real registries."""


class World:
    """Three real registries, one that misbehaves, and a dead one; and the images that the tree should
    have."""

    def __init__(
        self, hub: RealRegistry, site: RealRegistry, private: RealRegistry, rude: FakeRegistry
    ) -> None:
        self.hub, self.site, self.private, self.rude = hub, site, private, rude
        self.expected: dict[str, str] = {}
        self.digests: dict[str, str] = {}
        self.wishes: list[str] = []

    def put(self, place: str, image: Built) -> None:
        """Uploads an image and expects it in the tree."""
        registry, _, rest = place.partition("/")
        repository, _, tag = rest.partition(":")
        real = {"docker.io": self.hub, "site.example": self.site, "private.example": self.private}[registry]
        self.digests[place] = real.put(image, repository, tag)
        self.expected[place] = config_of(image)

    def delete(self, place: str) -> None:
        """Deletes a tag upstream and expects it gone."""
        registry, _, rest = place.partition("/")
        real = {"docker.io": self.hub, "site.example": self.site}[registry]
        real.delete(rest.partition(":")[0], self.digests[place])
        del self.expected[place]

    def asked(self) -> list[str]:
        """Returns the requests that the real registries answered with 200 since the last call."""
        lines = self.hub.requests() + self.site.requests() + self.private.requests()
        return [line for line in lines if line.endswith(" 200") and "/v2/ " not in line]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with (
        real_registry(tmp_path / "hub", accounts_needed=False) as hub,
        real_registry(tmp_path / "site-registry", accounts_needed=False) as site,
        real_registry(tmp_path / "private") as private,
        fake_registry() as rude,
    ):
        yield World(hub, site, private, rude)


@pytest.fixture
def service(tmp_path: Path, world: World) -> ServiceSite:
    service = ServiceSite(
        tmp_path / "service",
        {"docker.io": world.hub.host, "site.example": world.site.host, "rude.example": world.rude.host,
         "dead.example": "127.0.0.1:9"},
    )  # fmt: skip
    password = tmp_path / "password"
    password.write_text(world.private.password)
    service.registries["private.example"] = RegistrySettings(
        address=world.private.host,
        plain_http=True,
        username="reader",
        password_file=str(password),
        publish_private=True,
    )
    return service


def fill(world: World) -> None:
    for number in range(SPREAD):
        for place in (f"docker.io/hub/app{number}:1", f"site.example/team/app{number}:1"):
            world.put(place, built(place.replace("/", "_"), base=BASES[number % 2]))
            world.wishes.append(place)
    for number in range(4):
        place = f"private.example/secret/app{number}:1"
        world.put(place, built(place.replace("/", "_"), base=BASES[0]))
        world.wishes.append(place)
    for tag in ("v1.9", "v1.10", "v2.0"):
        world.put(f"site.example/team/tagged:{tag}", built(f"tagged {tag}", base=BASES[1]))
    world.site.put(built("nightly"), "team/tagged", "nightly")
    world.wishes.append("site.example/team/tagged:v*")
    for number in range(6):
        image = built(f"rude{number}")
        world.rude.add(image, f"r{number}")
        world.expected[f"rude.example/team/app:r{number}"] = config_of(image)
        world.wishes.append(f"rude.example/team/app:r{number}")
    world.rude.limit_every = 2
    world.wishes += ["dead.example/no/one:1", "dead.example/no/two:*", "rude.example/team/app:wrong"]
    wrong = built("wrong")
    world.rude.add(wrong, "wrong")
    digest = wrong.layer_descriptors[0]["digest"]
    world.rude.blobs[digest] = world.rude.blobs[digest][:-8] + b"wrong..."


FAILING = ["dead.example/no/one:1", "rude.example/team/app:wrong"]


def test_five_runs(world: World, service: ServiceSite) -> None:
    fill(world)
    world.asked()
    service.wish(*world.wishes)

    def run() -> tuple[int, int]:
        report = service.run()
        assert report.exit_code == 1
        failed = [name for name in events_of(report, "failed", "waiting") if name[-1] != "*"]
        assert failed == FAILING
        assert service.images() == world.expected
        assert service.repository.check().bad == 0
        return report.count("published", "moved"), report.count("removed")

    exact = 2 * SPREAD + 4
    assert run() == (len(world.expected), 0)
    first = world.asked()
    blobs = [line for line in first if "/blobs/" in line]
    layers = [line.rpartition("/")[2] for line in blobs]
    assert len(layers) == len(set(layers)), "no blob is read twice, from whichever registry"
    assert sum("HEAD" in line for line in first) == exact + 3
    assert len([line for line in first if "GET" in line and "/manifests/" in line]) == exact + 3
    assert sum("/tags/list" in line for line in first) == 1

    assert run() == (0, 0)
    assert sorted(world.asked()) == sorted(
        [line for line in first if "HEAD" in line or "/tags/list" in line]
    ), "what has not moved costs one HEAD, and a pattern one list of tags"

    moved = built("moved", base=BASES[0])
    world.put("docker.io/hub/app0:1", moved)
    world.put("site.example/team/tagged:v3.0", built("tagged v3.0", base=BASES[1]))
    world.delete("site.example/team/tagged:v1.9")
    assert run() == (2, 1)
    assert len([line for line in world.asked() if "/blobs/" in line]) == 4, "two configs and two layers"

    gone = "site.example/team/app3:1"
    world.wishes.remove(gone)
    del world.expected[gone]
    service.wish(*world.wishes)
    assert run() == (0, 1)

    service.list.write_text("<html>Sign in</html>")
    world.put("private.example/secret/app1:1", built("moved secret", base=BASES[1]))
    assert run() == (1, 0)
