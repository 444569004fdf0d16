"""Many images that share layers, and repositories whose wishlist names all of them."""

import shutil
from concurrent.futures import Executor
from pathlib import Path

from lazyfs.repository.commit import read_revision
from lazyfs.store import open_store
from lazyfs.sync.report import Report
from lazyfs.sync.run import sync
from lazyfs.sync.settings import RegistrySettings, ServiceSettings, Settings
from tests.support.counts import count
from tests.support.oci_images import entry, layer
from tests.support.registry import RealRegistry
from tests.support.service import built

IMAGES = count(8, 100)
_BASES = [layer(*[entry(f"base{n}", data=b"%d" % (n * b) * 500) for n in range(20)]) for b in range(1, 4)]
_layers: dict[str, int] = {}
"""Digest of each layer in the registry -> its size in bytes."""


def put_images(registry: RealRegistry) -> None:
    """Uploads IMAGES images, each with one of three shared layers and a layer of its own."""
    for number in range(IMAGES):
        image = built(f"own{number}", base=_BASES[number % 3])
        registry.put(image, f"team/app{number}", "1")
        others = image.manifest["digest"], image.config["digest"]
        _layers.update((name, len(data)) for name, data in image.blobs.items() if name not in others)


def assert_each_layer_read_once(registry: RealRegistry) -> None:
    """Asserts that every layer was read exactly once since the last call of `blobs_read`."""
    read = {name: size for name, size in registry.blobs_read().items() if name in _layers}
    assert read == _layers


class Site:
    """A copy of the empty repository, and a wishlist of the images `team/app0` and so on."""

    def __init__(self, new: Path, directory: Path, registry: RealRegistry, images: int = IMAGES) -> None:
        shutil.copytree(new, directory)
        self.directory = directory
        self.store = str(directory / "store")
        self.list = directory / "wishes.yaml"
        lines = "".join(f"  - 'https://registry.example/team/app{n}:1'\n" for n in range(images))
        self.list.write_text(f"version: 1\ninput:\n{lines}")
        self.configuration = directory / "service.toml"
        self.configuration.write_text(
            '[service]\nlast-update = false\n[registries."registry.example"]\n'
            f'address = "{registry.host}"\nplain-http = true\n'
        )
        self.settings = Settings(
            ServiceSettings(last_update=False, minutes_per_revision=1000, images_per_revision=1000),
            {"registry.example": RegistrySettings(address=registry.host, plain_http=True)},
        )

    def sync(self, executor: Executor | None) -> Report:
        return sync(
            [str(self.list)],
            self.store,
            executor=executor,
            keys=str(self.directory / "keys"),
            settings=self.settings,
            status_directory=str(self.directory / "status"),
        )

    @property
    def root(self) -> str:
        return read_revision(open_store(self.store)).root.digest.hex()
