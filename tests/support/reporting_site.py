"""A repository with an image of many programs, a collector of reports for it, and workers that report."""

import random
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import CryptoSigner

from lazyfs.core import profile
from lazyfs.core.digest import Digest
from lazyfs.core.params import Params
from lazyfs.core.start_reports.report import StartReport, TouchedFile
from lazyfs.images.profiles.publish import profiled_tree
from lazyfs.repository import delegation
from lazyfs.repository import keys as key_files
from lazyfs.repository.commit import read_revision
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import reader
from lazyfs.sync.collecting.collector import ReportCollector
from lazyfs.sync.collecting.image_objects import ImageObjects, RepositoryImages
from lazyfs.sync.collecting.publishing import ProfilePublisher
from lazyfs.sync.collecting.reporters import Reporters
from tests.support.oci_images import Built, entry, layer
from tests.support.repositories import NOW, Repository

PLACE = "r.example/app:1"
PROGRAMS = 50
SHARED = 24
OWN = 6
SIZE = 2000


class ReportingSite:
    """A repository whose image has many programs, and a collector of reports about their starts. Each file
    has a pack of its own. A program reads its executable, SHARED files that all programs read, and OWN files
    that only this program reads."""

    def __init__(self, directory: Path, programs: int = PROGRAMS, least: int = 3, size: int = SIZE) -> None:
        """`size` is the size of each file in bytes, and `least` the collector's smallest number of reports
        for a profile."""
        self.size = size
        self.directory = directory
        self.repository = Repository(directory, Params(pack_least=1, pack_target=1))
        self._images: dict[str, ImageObjects] = {}
        self.contents = random.Random(1)
        self.publish(PLACE, programs)
        self.key_directory = directory / "profiles-key"
        delegation.delegate(self.repository.store, self.repository.keys, self._make_key, NOW)
        self.least = least
        self.now = NOW.timestamp()
        self.collector = self.start()

    def _make_key(self) -> list[CryptoSigner]:
        return key_files.generate(str(self.key_directory), ["profiles"])

    def publish(self, place: str, programs: int) -> None:
        """Publishes an image with `programs` programs. The contents of its files are random, and so differ
        from those of every other image."""
        files = [f"shared/{at}" for at in range(SHARED)] + [f"unread/{at}" for at in range(SHARED)]
        files += [f"own/{number}/{at}" for number in range(programs) for at in range(OWN)]
        entries = [entry(name, data=self.contents.randbytes(self.size)) for name in files]
        entries += [
            entry(f"bin/p{number}", data=self.contents.randbytes(self.size), mode=0o755)
            for number in range(programs)
        ]
        built = Built([layer(*entries)])
        layout = built.write_layout(self.directory / f"layout-{place.replace('/', '_')}")
        self.repository.publish(f"oci:{layout}", place=place)

    def start(self) -> ReportCollector:
        """Starts a collector, which loads the state that an earlier collector has saved."""
        store = self.repository.store
        keys = key_files.load(str(self.key_directory))
        publisher = ProfilePublisher(store, keys, self._clock, self.least)
        state = str(self.directory / "state")
        return ReportCollector(store, publisher, Reporters({}), state, lambda: self.now)

    def _clock(self) -> datetime:
        return NOW

    def image(self, place: str = PLACE) -> ImageObjects:
        """Returns the files, programs and objects of an image, as the collector finds them in the
        repository."""
        if place not in self._images:
            images = RepositoryImages(self.repository.store)
            _, top = profiled_tree(images.tree, place)
            found = images.find(top.digest, self.now)
            assert found is not None
            self._images[place] = found
        return self._images[place]

    def report(self, program: int, also: Iterable[str] = (), place: str = PLACE) -> StartReport:
        """Returns the honest report of a program's start. `also`: more files that it read."""
        image = self.image(place)
        names = [f"bin/p{program}", *(f"shared/{at}" for at in range(SHARED))]
        names += [*(f"own/{program}/{at}" for at in range(OWN)), *also]
        touched = tuple(TouchedFile(name.encode(), tuple(image.sizes(name.encode()))) for name in names)
        program_path = f"bin/p{program}".encode()
        return StartReport(1, "test.example.org", image.top.digest, program_path, touched)

    def listed(self) -> profile.Profile | None:
        """Returns the published profile of the first image; None if there is none."""
        found = delegation.published_list(self.repository.store)
        mine = [one for one in found.profiles if one.image == self.image().top.digest] if found else []
        return profile.decode(reader(self.repository.store)(mine[0].profile)) if mine else None

    def programs(self) -> dict[str, set[Digest]]:
        """Returns program -> the digests of the files and chunks that the published profile lists for it."""
        made = self.listed()
        programs = made.programs if made else ()
        return {one.path: {ref.digest for ref in made.contents(one)} for one in programs if made}

    def tree(self) -> StoredTree:
        """Returns the tree of the newest revision."""
        store = self.repository.store
        return StoredTree(reader(store), read_revision(store).root)

    def revision(self) -> int:
        return read_revision(self.repository.store).number


def objects_of(report: StartReport) -> list[Digest]:
    """Returns the objects of a report in its order."""
    return [Digest(digest) for file in report.touched for digest in file.objects]
