"""The reports that have been counted, for each program of each image, and the rules by which a report counts.

A report counts if the newest revision has its image, its program is an executable file of this image, and the
objects that it names belong to the files of the image for which it names them. A reporter's first report on a
program counts, and later ones do not. A report that does not count only changes a counter of outcomes. All
tables are bounded.
"""

import enum
import hashlib
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
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
"""The largest number of programs of one image. Beyond it, a new program replaces the program with the fewest
reported starts, if that has only one start."""
MOST_OBJECTS: Final = 1_000_000
"""The largest number of objects for all programs together, each some 200 bytes in memory. Beyond it, the
images whose last report is the oldest are dropped."""
WRONG: Final = 0.1
"""The largest share of foreign objects with which a report still counts. An object is foreign if it does not
belong to the file for which the report names it; foreign objects are left out. Honest reports have some: a
mount has one inode for a file that two images share, and may report it for the wrong image."""
_VOICE = 8
"""The number of bytes of the hash that is stored for a reporter."""


class Outcome(enum.StrEnum):
    """The result of taking one report."""

    COUNTED = "counted"
    REPEATED = "repeated"
    """An earlier report of this reporter on this program has been counted."""
    UNKNOWN = "unknown image"
    """The report is about another repository, or an image that the newest revision does not have."""
    WRONG = "wrong"
    """The program is no executable file of the image, or too many of the objects do not belong to the
    image."""
    FULL = "no room"
    """The image already has MOST_PROGRAMS programs, each with several reported starts."""


class ProgramKey(NamedTuple):
    """One program of one image."""

    image: Digest
    program: bytes


class ProgramReports(msgspec.Struct):
    """The counted reports on one program of one image."""

    voices: Voices = msgspec.field(default_factory=Voices)
    reporters: set[bytes] = set()
    sizes: dict[Digest, int] = {}
    """The plaintext sizes, by digest, of the objects and small files that counted starts touched."""

    def kept(self) -> list[Digest]:
        """Returns the objects and small files that the program's profile is to list, in the order of their
        first use."""
        return self.voices.kept(self.sizes.__getitem__)


class _Saved(msgspec.Struct):
    version: int
    repository: str
    images: dict[bytes, dict[bytes, ProgramReports]]
    outcomes: dict[str, int]


class Reports:
    """The counted reports of one repository. Not thread-safe."""

    def __init__(self, repository: str) -> None:
        self.repository = repository
        self.outcomes: Counter[str] = Counter()
        self._images: OrderedDict[Digest, dict[bytes, ProgramReports]] = OrderedDict()
        """The reports by image and program; the image with the latest report is last."""
        self._objects = 0

    def settle(self, report: StartReport, reporter: str) -> Outcome | None:
        """Returns the outcome of a report that does not count, whatever its image holds; None for any other
        report, with which nothing is done. `reporter`: the name of its sender."""
        outcome = self._settled(report, reporter)
        if outcome is not None:
            self.outcomes[outcome] += 1
        return outcome

    def take(self, report: StartReport, reporter: str, sizes: Mapping[Digest, int] | None) -> Outcome:
        """Counts a report if it is valid, and returns the outcome. `reporter`: the name of its sender.
        `sizes`: as `honest_sizes` returns them; None if the newest revision does not have the image."""
        outcome = self._settled(report, reporter)
        if outcome is None:
            outcome = Outcome.UNKNOWN if sizes is None else self._count(report, reporter, sizes)
        self.outcomes[outcome] += 1
        return outcome

    def _settled(self, report: StartReport, reporter: str) -> Outcome | None:
        if report.repository != self.repository:
            return Outcome.UNKNOWN
        known = self._images.get(Digest(report.image), {}).get(report.program)
        return Outcome.REPEATED if known is not None and _voice(reporter) in known.reporters else None

    def _count(self, report: StartReport, reporter: str, sizes: Mapping[Digest, int]) -> Outcome:
        if not sizes:
            return Outcome.WRONG
        key = ProgramKey(Digest(report.image), report.program)
        known = self._images.get(key.image, {}).get(key.program) or self._room_for(key)
        if known is None:
            return Outcome.FULL
        if known.voices.starts >= MOST_STARTS:
            known.reporters.clear()
        before = len(known.sizes)
        known.reporters.add(_voice(reporter))
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
        """Adds an entry for a new program and returns it; None if the image has MOST_PROGRAMS programs and
        none with a single start, which could be replaced."""
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
        """Returns the images that have counted reports, by the digests of their top catalogs."""
        return list(self._images)

    def programs(self, least: int) -> Iterator[tuple[ProgramKey, ProgramReports]]:
        """Yields the programs of which at least `least` starts have been counted, with their reports."""
        for image, programs in self._images.items():
            for program, reports in programs.items():
                if reports.voices.starts >= least:
                    yield ProgramKey(image, program), reports

    def save(self) -> bytes:
        """Returns the reports and counters as bytes that `restored` reads."""
        images: dict[bytes, dict[bytes, ProgramReports]] = dict(self._images.items())
        return msgspec.msgpack.encode(_Saved(VERSION, self.repository, images, dict(self.outcomes)))


def restored(data: bytes, repository: str) -> Reports:
    """Returns the Reports that Reports.save has written into `data`. Raises UsageError if `data` is damaged,
    or of another repository or version."""
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


def honest_sizes(report: StartReport, image: ImageObjects) -> dict[Digest, int]:
    """Returns the plaintext sizes, by digest, of those reported objects that belong to the files for which
    the report names them. The result is empty if the share of foreign objects is larger than WRONG, or if the
    program is no executable file of the image.

    A liar shall cost little: chunk lists are looked at last, and nothing is once too many objects are
    foreign.
    """
    if not image.is_program(report.program):
        return {}
    left = WRONG * sum(len(file.objects) for file in report.touched)
    at_hand = []
    for file in report.touched:
        there = image.sizes_at_hand(file.path)
        at_hand.append(there)
        if there is not None:
            left -= sum(digest not in there for digest in digests(file))
            if left < 0:
                return {}
    found: dict[Digest, int] = {}
    for file, there in zip(report.touched, at_hand, strict=True):
        if there is None:
            there = image.sizes(file.path)
            left -= sum(digest not in there for digest in digests(file))
            if left < 0:
                return {}
        for digest in digests(file):
            if digest in there:
                found.setdefault(digest, there[digest])
    return found


def _voice(reporter: str) -> bytes:
    return hashlib.sha256(reporter.encode()).digest()[:_VOICE]
