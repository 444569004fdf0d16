"""What has been reported so far, for each program of each image apart; and which report counts.

A report is counted if its image hangs in the newest revision, its program is an executable of the image, and
what it says was touched lies in the image. Each reporter has one voice for a program. Everything else changes
a counter and nothing else. All tables are bounded.
"""

import enum
import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from lazyfs.core.digest import Digest
from lazyfs.core.errors import UsageError
from lazyfs.core.start_reports.merge import MOST_STARTS, Voices
from lazyfs.core.start_reports.report import StartReport, digests
from lazyfs.sync.collecting.image_objects import ImageObjects

VERSION: Final = 1
MOST_IMAGES: Final = 1000
MOST_PROGRAMS: Final = 64
"""Programs of one image. A new one takes the place of the one that the fewest starts have reported, if only
one has."""
MOST_OBJECTS: Final = 1_000_000
"""Objects of all programs together, some 200 bytes each in memory. The image that was reported longest ago
goes first."""
WRONG: Final = 0.1
"""Share of a report's objects that may lie elsewhere: a file that two images share is seen under one number
by the mount, which may take it for the other image's. They are left out."""
_VOICE = 8
"""Bytes of the hash that stands for a reporter."""


class Outcome(enum.StrEnum):
    """The fate of one report."""

    COUNTED = "counted"
    REPEATED = "repeated"
    """The reporter has had its voice for this program."""
    TOO_OFTEN = "too often"
    UNKNOWN = "unknown image"
    """Another repository, or an image that its newest revision has not."""
    WRONG = "wrong"
    """No executable of the image, or objects that lie elsewhere."""
    FULL = "no room"
    """The image has as many programs as are kept, all of them reported by several starts."""


class ProgramKey(NamedTuple):
    """One program of one image."""

    image: Digest
    program: bytes


class ProgramReports(msgspec.Struct):
    """The reports of one program of one image."""

    voices: Voices = msgspec.field(default_factory=Voices)
    reporters: set[bytes] = set()
    sizes: dict[Digest, int] = {}
    """Object -> its plaintext size."""

    def kept(self) -> list[Digest]:
        """Returns the objects that the profile is made of."""
        return self.voices.kept(self.sizes.__getitem__)


class _Saved(msgspec.Struct):
    version: int
    repository: str
    images: dict[bytes, dict[bytes, ProgramReports]]
    outcomes: dict[str, int]


class Reports:
    """The reports of one repository. Not thread-safe."""

    def __init__(self, repository: str) -> None:
        self.repository = repository
        self.outcomes: Counter[str] = Counter()
        self._images: OrderedDict[Digest, dict[bytes, ProgramReports]] = OrderedDict()
        """Image -> its programs; the image that was reported last comes last."""
        self._objects = 0

    def take(
        self, report: StartReport, reporter: str, find: Callable[[Digest], ImageObjects | None]
    ) -> Outcome:
        """Counts a report if it may be counted. `reporter`: who sent it. `find` returns an image of the
        newest revision. Raises as `find`."""
        outcome = self._take(report, reporter, find)
        self.outcomes[outcome] += 1
        return outcome

    def _take(
        self, report: StartReport, reporter: str, find: Callable[[Digest], ImageObjects | None]
    ) -> Outcome:
        key = ProgramKey(Digest(report.image), report.program)
        known = self._images.get(key.image, {}).get(key.program)
        voice = hashlib.sha256(reporter.encode()).digest()[:_VOICE]
        if known is not None and voice in known.reporters:
            return Outcome.REPEATED
        image = find(key.image) if report.repository == self.repository else None
        if image is None:
            return Outcome.UNKNOWN
        sizes = _honest(report, image)
        if not sizes:
            return Outcome.WRONG
        if known is None:
            known = self._room_for(key)
            if known is None:
                return Outcome.FULL
        if known.voices.starts >= MOST_STARTS:
            known.reporters.clear()
        before = len(known.sizes)
        known.reporters.add(voice)
        known.voices.count(list(sizes), sum(sizes.values()))
        known.sizes.update(sizes)
        if len(known.sizes) > len(known.voices.touched):  # counts were halved
            known.sizes = {digest: known.sizes[digest] for digest in known.voices.touched}
        self._objects += len(known.sizes) - before
        self._images.move_to_end(key.image)
        while self._objects > MOST_OBJECTS and len(self._images) > 1:
            self.forget(next(iter(self._images)))
        return Outcome.COUNTED

    def _room_for(self, key: ProgramKey) -> ProgramReports | None:
        """Returns a new entry for a program; None if its image has too many that others have reported."""
        programs = self._images.setdefault(key.image, {})
        if len(programs) >= MOST_PROGRAMS:
            seldom = min(programs, key=lambda program: programs[program].voices.starts)
            if programs[seldom].voices.starts > 1:
                return None
            self._objects -= len(programs.pop(seldom).sizes)
        if len(self._images) > MOST_IMAGES:
            self.forget(next(iter(self._images)))
        made = programs[key.program] = ProgramReports()
        return made

    def forget(self, image: Digest) -> None:
        """Drops the reports of an image."""
        self._objects -= sum(len(one.sizes) for one in self._images.pop(image, {}).values())

    def images(self) -> list[Digest]:
        """Returns the images of which something is known."""
        return list(self._images)

    def programs(self, least: int) -> Iterator[tuple[ProgramKey, ProgramReports]]:
        """Yields the programs that at least `least` starts have reported."""
        for image, programs in self._images.items():
            for program, reports in programs.items():
                if reports.voices.starts >= least:
                    yield ProgramKey(image, program), reports

    def save(self) -> bytes:
        """Returns everything, for `restored`."""
        images: dict[bytes, dict[bytes, ProgramReports]] = dict(self._images.items())
        return msgspec.msgpack.encode(_Saved(VERSION, self.repository, images, dict(self.outcomes)))


def restored(data: bytes, repository: str) -> Reports:
    """Returns the reports that `save` has saved. Raises UsageError if they are of another repository, or
    damaged."""
    try:
        saved = msgspec.msgpack.decode(data, type=_Saved)
    except msgspec.MsgspecError as error:
        raise UsageError(f"the saved reports cannot be read: {error}; move their file away") from None
    if saved.version != VERSION or saved.repository != repository:
        raise UsageError(
            f"the saved reports are of repository {saved.repository}, version {saved.version}, and not of "
            f"{repository}, version {VERSION}: name another directory with --state"
        )
    found = Reports(repository)
    found.outcomes.update(saved.outcomes)
    for image, programs in saved.images.items():
        found._images[Digest(image)] = programs
        found._objects += sum(len(one.sizes) for one in programs.values())
    return found


def _honest(report: StartReport, image: ImageObjects) -> dict[Digest, int]:
    """Returns the objects of a report that lie in the image where the report says, with their sizes; none if
    the report says too much that is wrong."""
    if not image.is_program(report.program):
        return {}
    found: dict[Digest, int] = {}
    most_wrong = WRONG * sum(len(file.objects) for file in report.touched)
    wrong = 0
    for file in report.touched:
        there = image.sizes(file.path)
        for digest in digests(file):
            if digest in there:
                found.setdefault(digest, there[digest])
            else:
                wrong += 1
        if wrong > most_wrong:  # looked at no further: a liar shall cost little
            return {}
    return found
