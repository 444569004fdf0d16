"""A repository with an image, for tests that make and read its profiles."""

import json
import os
from pathlib import Path
from typing import Any

from lazyfs.core import profile
from lazyfs.core.catalog.entry import Entry
from lazyfs.core.digest import Digest, sha256
from lazyfs.core.params import Params
from lazyfs.images import profiles
from lazyfs.repository.diff import resolve
from tests.support.catalog_listing import open_tree
from tests.support.oci_images import Built, entry, layer
from tests.support.repositories import NOW, Repository

PLACE = "r.example/app:1"
SMALL = {f"d/{name}": name.encode() * 100 for name in ("a", "b", "c", "unread")}
LARGE = os.urandom(3 << 20)


class ProfiledSite:
    """A repository with one image. Each of its small files is alone in a pack, and so can be recognised by
    the pack's digest."""

    def __init__(self, directory: Path, params: Params | None = None) -> None:
        self.directory = directory
        self.repository = Repository(directory, params or Params(pack_least=1, pack_target=1))
        self.publish(SMALL | {"large": LARGE})

    def publish(self, *layers: dict[str, bytes], place: str = PLACE, **options: Any) -> bool:
        """Publishes an image. Each of `layers` maps path -> content. Returns True if the tree has changed."""
        built = Built([layer(*(entry(name, data=data) for name, data in files.items())) for files in layers])
        layout = built.write_layout(self.directory / f"layout-{len(list(self.directory.iterdir()))}")
        return self.repository.publish(f"oci:{layout}", place=place, **options).changed

    def trace(self, *contents: bytes) -> str:
        path = self.directory / "trace"
        events = [[1.0, "read", "path", sha256(content).hex(), 10, "cache", 5] for content in contents]
        path.write_text("".join(json.dumps(event) + "\n" for event in events))
        return str(path)

    def make(self, *contents: bytes, image: str = PLACE, program: str = "") -> profiles.ProfileReport:
        touched = {program: profiles.read_traces([self.trace(*contents)])}
        return profiles.publish_profile(
            self.repository.store, self.repository.keys, image, touched, lambda: NOW
        )

    def entry(self, place: str = PLACE) -> Entry:
        return resolve(open_tree(self.repository.path), place).node.entry

    def plain(self, place: str = PLACE) -> bytes | None:
        """Returns the plaintext of an image's profile; None if it has none."""
        ref = profile.hinted(self.entry(place))
        return None if ref is None else open_tree(self.repository.path).read(ref)

    def listed(self, place: str = PLACE) -> profile.Profile | None:
        plain = self.plain(place)
        return None if plain is None else profile.decode(plain)

    def packs(self, place: str = PLACE) -> list[profile.HotPack]:
        """Returns the hot packs that an image's profile lists; none if it has no profile."""
        found = self.listed(place)
        return [] if found is None else found.listed()

    def members(self, place: str = PLACE) -> list[Digest]:
        """Returns the small files and other objects of an image's profile, in its order."""
        found = self.listed(place)
        return [] if found is None else [ref.digest for ref in found.contents()]
