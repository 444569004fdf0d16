"""A test bed for a service: 60 images in three real registries, and the tree that a run should make of them.

Images share layers across registries. Docker Hub's stand-in pages its lists of tags, the site's registry
answers every second request with 429, and the private one needs an account. One of the site's images has a
layer that does not match its digest. The lists also name a registry that does not answer at all.
"""

import io
import os
import stat
import tarfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lazyfs.core.oci.manifest import parse_config
from lazyfs.core.oci.reference import HUB_HOSTS
from lazyfs.core.oci.start_files import additions
from lazyfs.sync.settings import RegistrySettings
from tests.support import mounted_tree
from tests.support.oci_images import Built, entry, layer
from tests.support.registry import RealRegistry, real_registry
from tests.support.registry_door import Door, door_to
from tests.support.service import ServiceSite, built, config_of

HUB, SITE, PRIVATE, DEAD = "docker.io", "site.example", "private.example", "dead.example"
BASES = [
    layer(*[entry(f"base{number}-{part}", data=b"%d" % part * 3000) for part in range(8)])
    for number in range(3)
]
PATTERN = f"{HUB}/hub/tagged:v*"
WRONG = f"{SITE}/team/wrong:1"
FAILING = [f"{DEAD}/no/one:1", WRONG]
TAGS_ON_A_PAGE = 3


class World:
    """The registries, the lists, and the expected content of the tree."""

    def __init__(self, directory: Path, registries: dict[str, RealRegistry], doors: dict[str, Door]) -> None:
        self.registries, self.doors = registries, doors
        self.expected: dict[str, Built] = {}
        """Place -> the image that the tree should have there."""
        self.lists: dict[str, list[str]] = {"hub.yaml": [], "site.yaml": [], "private.yaml": []}
        self.instead: dict[str, str] = {}
        """Name of a list -> text that is written in place of its wishes."""
        self._directory = directory
        self._upstream: dict[str, Built] = {}

    def put(self, place: str, image: Built, *, seen: bool = True) -> None:
        """Uploads an image. `seen`: also records that the tree is expected to have it after the next run."""
        registry, repository, tag = parts(place)
        self.registries[registry].put(image, repository, tag)
        self._upstream[place] = image
        if seen:
            self.expected[place] = image

    def delete(self, place: str) -> None:
        """Deletes a tag from its registry, and records that the next run should remove it from the tree."""
        registry, repository, _ = parts(place)
        self.registries[registry].delete(repository, self._upstream.pop(place).manifest["digest"])
        del self.expected[place]

    def catch_up(self) -> None:
        """Records that each place in the tree should now have the image that its registry has."""
        self.expected = {place: self._upstream[place] for place in self.expected}

    def spoil(self, place: str) -> None:
        """Damages the upper layer of an image in its registry's storage, without changing its length."""
        registry, _, _ = parts(place)
        digits = self._upstream[place].layer_descriptors[-1]["digest"].removeprefix("sha256:")
        (file,) = (self._directory / registry).glob(f"blobs/docker/registry/v2/blobs/sha256/*/{digits}/data")
        with file.open("r+b") as opened:
            opened.seek(-8, os.SEEK_END)
            opened.write(b"wrong...")

    def write_lists(self, directory: Path) -> list[Path]:
        """Writes the lists; returns their paths."""
        for name, wishes in self.lists.items():
            owner = {"site.yaml": "atlas", "private.yaml": "cms"}.get(name, "")
            head = f"lazyfs: 1\ndefaults: {{owner: {owner}}}\nimages:\n" if owner else "version: 1\ninput:\n"
            text = head + "".join(f"  - '{wish}'\n" for wish in wishes)
            (directory / name).write_text(self.instead.get(name, text))
        return [directory / name for name in self.lists]

    def asked(self) -> list[str]:
        """Returns the requests since the last call that were answered with 200, of all registries."""
        lines = [line for door in self.doors.values() for line in door.take()]
        logged = [line for registry in self.registries.values() for line in registry.requests()]
        assert sorted(lines) == sorted(logged), "the registries' own logs say the same"
        return [line for line in lines if line.endswith(" 200") and "/v2/ " not in line]

    def settings(self) -> dict[str, RegistrySettings]:
        """Returns the service's settings for the registries."""
        password = self._directory / "password"
        password.write_text(self.registries[PRIVATE].password)
        plain = {
            name: RegistrySettings(address=door.host, plain_http=True) for name, door in self.doors.items()
        }
        plain[DEAD] = RegistrySettings(address="127.0.0.1:9", plain_http=True)
        plain[PRIVATE] = RegistrySettings(
            address=self.doors[PRIVATE].host,
            plain_http=True,
            username="reader",
            password_file=str(password),
            publish_private=True,
        )
        return plain

    def links(self) -> dict[str, str]:
        """Returns path -> target for every link that the tree should have, and path -> "" for every folder,
        except below the folders that hold the parts of images."""
        found: dict[str, str] = {}
        for place, image in self.expected.items():
            repository = place.rpartition(":")[0]
            for path in (place, f"{repository}:{image.manifest['digest']}"):
                found[path] = image.flat
            while "/" in repository:
                repository = repository.rpartition("/")[0]
                found[repository] = ""
        if HUB in found:
            found |= dict.fromkeys(HUB_HOSTS[1:], HUB)
        return found

    def compare(self, mount: Path) -> None:
        """Asserts that a mounted tree has exactly the expected images, with all their files."""
        images = self.expected
        assert mounted_tree.links(mount) == self.links()
        assert mounted_tree.shelved(mount, ".flat") == {config_of(image) for image in images.values()}
        layers = {digest.removeprefix("sha256:") for image in images.values() for digest in image.diff_ids}
        assert mounted_tree.shelved(mount, ".layers") == layers
        for place, image in images.items():
            found, wanted = mounted_tree.files((mount / place).resolve()), files_of(image)
            assert not {path for path in found | wanted if found.get(path) != wanted.get(path)}, place

    def configs(self) -> dict[str, str]:
        """Returns place -> digest of the config of the expected image."""
        return {place: config_of(image) for place, image in self.expected.items()}


class Requests:
    """Counts the requests to all registries."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = threading.Condition()

    def seen(self) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def wait_for(self, count: int, seconds: float) -> bool:
        """Waits until `count` requests have come; returns False if `seconds` pass first."""
        with self._changed:
            return self._changed.wait_for(lambda: self.count >= count, seconds)


@contextmanager
def service_world(directory: Path, requests: Requests | None = None) -> Iterator[World]:
    """Runs the registries with all images; stores their files in `directory`."""
    directory.mkdir(exist_ok=True)
    seen = (requests or Requests()).seen
    with ExitStack() as stack:
        registries, doors = {}, {}
        for name in (HUB, SITE, PRIVATE):
            made = real_registry(directory / name, accounts_needed=name == PRIVATE)
            registries[name] = stack.enter_context(made)
            doors[name] = stack.enter_context(door_to(registries[name].host, seen))
        doors[HUB].page = TAGS_ON_A_PAGE
        doors[SITE].limited = True
        world = World(directory, registries, doors)
        _fill(world)
        yield world


def _fill(world: World) -> None:
    hub, site, private = world.lists.values()
    exact = [
        *((hub, f"{HUB}/hub/app{number % 5}:{number}") for number in range(20)),
        *((site, f"{SITE}/team/app{number % 5}:{number}") for number in range(18)),
        *((private, f"{PRIVATE}/secret/app{number % 5}:{number}") for number in range(14)),
    ]
    for number, (wishes, place) in enumerate(exact):
        world.put(place, built(place.replace("/", "_"), base=BASES[number % 3]))
        wishes.append(place)
    for tag in ("v1.8", "v1.9", "v1.10", "v2.0", "v2.1", "v2.2", "v2.3", "v2.4"):
        world.put(f"{HUB}/hub/tagged:{tag}", built(f"tagged {tag}", base=BASES[1]))
    for tag in ("nightly", "latest"):
        world.put(f"{HUB}/hub/tagged:{tag}", built(tag), seen=False)
    hub.append(PATTERN)
    world.put(WRONG, built("wrong"), seen=False)
    world.spoil(WRONG)
    site.append(WRONG)
    world.asked()


def site_of(world: World, directory: Path) -> ServiceSite:
    """Returns a service for the world. Its clock starts some hours ago, since its runs are an hour apart and
    mounts must trust what it publishes."""
    site = ServiceSite(directory, {}, datetime.now(UTC).replace(microsecond=0) - timedelta(hours=8))
    site.registries = world.settings()
    return site


def parts(place: str) -> tuple[str, str, str]:
    """Splits an image's place into registry, repository and tag."""
    name, _, tag = place.rpartition(":")
    registry, _, repository = name.partition("/")
    return registry, repository, tag


def files_of(image: Built) -> dict[str, bytes]:
    """Returns path -> content of the files that a published image should have: those of its layers, and those
    that a publish adds to make it ready to run."""
    config = parse_config(image.blobs[image.config["digest"]], "config")
    found = {one.path: one.data for one in additions(config, ()) if stat.S_ISREG(one.mode)}
    for descriptor in image.layer_descriptors:
        with tarfile.open(fileobj=io.BytesIO(image.blobs[descriptor["digest"]])) as archive:
            for member in archive:
                content = archive.extractfile(member)
                assert content
                found[member.name] = content.read()
    return found
