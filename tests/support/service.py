"""A sync service on a new repository, with wishlists in files and registries on this machine."""

import dataclasses
import threading
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from lazyfs.core.oci.manifest import Platform
from lazyfs.core.webhooks.pushes import Push
from lazyfs.repository.commit import read_revision
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import reader
from lazyfs.store.directory import DirectoryStore
from lazyfs.sync.list_run import run_lists
from lazyfs.sync.lists import ListKeeper, load
from lazyfs.sync.push_run import run_pushes
from lazyfs.sync.registries import Registries
from lazyfs.sync.report import Report
from lazyfs.sync.service import Service
from lazyfs.sync.settings import RegistrySettings, ServiceSettings
from lazyfs.sync.state import State, read_state, write_state
from tests.support.oci_images import Built, entry, layer
from tests.support.repositories import NOW, Repository

NAME = "test.example.org"


def built(*files: str, base: bytes = b"", created: str = "2024-05-06T07:08:09Z") -> Built:
    """Returns an image of one layer, on top of the layer `base` if it is given. The content of each file is
    its own name, repeated."""
    own = layer(*[entry(name, data=name.encode() * 50) for name in files])
    return Built([base, own] if base else [own], created=created)


class _SiteStore(DirectoryStore):
    """A store directory whose clock is the service's."""

    def __init__(self, site: "ServiceSite") -> None:
        super().__init__(str(site.repository.path))
        self._site = site

    def now(self) -> float:
        return self._site.clock.timestamp()


class ServiceSite:
    """A service, a repository and a clock. Each run is an hour after the one before."""

    def __init__(self, directory: Path, names: dict[str, str], clock: datetime = NOW) -> None:
        """Makes a service without lists. `names` maps each registry to the host[:port] that stands in for it.
        `clock` is the time at the start; it must be recent if the repository is mounted, because a mount
        trusts only recent signatures."""
        directory.mkdir(exist_ok=True)
        self.repository = Repository(directory, made=clock)
        self.directory = directory
        self.status = directory / "status"
        self.status.mkdir()
        self.registries: dict[str, RegistrySettings] = {
            name: RegistrySettings(address=host, plain_http=True) for name, host in names.items()
        }
        self.settings = ServiceSettings(last_update=False, minutes_per_revision=1000)
        self.clock = clock
        self.list = directory / "wishlist.yaml"
        self.told: list[str] = []
        self._paused = 0.0
        self._lock = threading.Lock()

    def wish(self, *lines: str) -> None:
        """Writes the service's wishlist in CERN's format, with these images."""
        self.list.write_text("version: 1\ninput:\n" + "".join(f"  - '{line}'\n" for line in lines))

    def log_in(self, registry: str, user: str, password: str) -> None:
        """Gives the service an account at a registry, and allows it to publish that registry's private
        images."""
        file = self.directory / "password"
        file.write_text(password)
        self.registries[registry] = msgspec.structs.replace(
            self.registries[registry], username=user, password_file=str(file), publish_private=True
        )

    def run(
        self,
        lists: Iterable[Path | str] | None = None,
        *,
        accept_shorter: Iterable[Path | str] = (),
        pushes: Sequence[Push] | None = None,
        **options: Any,
    ) -> Report:
        """Moves the clock forward by an hour, and does one run with `lists`, by default the service's own
        list. With `pushes`, the run is for these only."""
        self.clock += timedelta(hours=1)
        names = [str(one) for one in ([self.list] if lists is None else lists)]
        meant = [str(one) for one in accept_shorter]
        keeper = ListKeeper(str(self.status / "lists"), self.clock.timestamp, meant)
        given = [load(name, keeper) for name in names]
        for one in given:
            keeper.take(one)
        state = self.state()
        with Registries(self.registries, {}, self._pause, self._monotonic) as registries:
            service = Service(
                self.store,
                self.repository.keys,
                registries,
                self.settings,
                Platform("linux", "amd64"),
                lambda: self.clock,
                save=lambda now: write_state(str(self.status), now),
                tell=self.told.append,
            )
            service = dataclasses.replace(service, **options)
            if pushes is None:
                return run_lists(service, given, state)
            return run_pushes(service, given, state, pushes)

    def _pause(self, seconds: float) -> None:
        """Moves the service's monotonic clock forward instead of waiting."""
        with self._lock:
            self._paused += seconds

    def _monotonic(self) -> float:
        return time.monotonic() + self._paused

    @property
    def store(self) -> DirectoryStore:
        """The repository's store, on the service's clock."""
        return _SiteStore(self)

    def state(self) -> State:
        """Returns the state that the last run left."""
        return read_state(str(self.status), NAME)

    def tree(self) -> StoredTree:
        """Returns the tree of the committed revision."""
        store = self.repository.store
        return StoredTree(reader(store), read_revision(store).root)

    def links(self) -> dict[str, str]:
        """Returns every link of the tree outside .flat, .layers and .metadata: path -> target."""
        tree = self.tree()
        found: dict[str, str] = {}
        folders = [("", tree.root())]
        for path, node in folders:
            for one in tree.entries(node):
                name = f"{path}/{one.name.decode()}".lstrip("/")
                if one.is_link:
                    found[name] = one.content.decode()
                elif one.is_dir and name not in (".flat", ".layers", ".metadata"):
                    folders.append((name, tree.node(one, node.catalog)))
        return found

    def images(self) -> dict[str, str]:
        """Returns path -> digest of the config, for each tag's link."""
        return {
            path: target.rpartition("/")[2]
            for path, target in self.links().items()
            if "/.flat/" in target and ":sha256:" not in path and not path.startswith(".multiarch")
        }


def config_of(image: Built) -> str:
    """Returns the digest of an image's config in hex, which is also the name of its tree."""
    return str(image.config["digest"]).removeprefix("sha256:")


def events_of(report: Report, *kinds: str) -> list[str]:
    """Returns the images of the events of these kinds, sorted."""
    return sorted(event.image for event in report.events if event.event in kinds)
