"""The choice of a profile for a start: the image's own, or the one collected for the program that is read."""

import pytest

from lazyfs.core.catalog.entry import Entry
from lazyfs.core.digest import Digest, ObjectRef, ref_of, sha256
from lazyfs.prefetch.program_profiles import PROGRAMS, WAITING, ProgramProfiles
from lazyfs.vfs.content import ReadPlan

IMAGE, OWN = sha256(b"image"), ref_of(b"own")
ROOT, PYTHON = ref_of(b"root"), ref_of(b"python")
BOTH = {b"usr/bin/root": ROOT, b"usr/bin/python3": PYTHON}


class Choices:
    """The profiles that were begun, in order."""

    def __init__(self, programs: dict[bytes, ObjectRef]) -> None:
        self.begun: list[ObjectRef] = []
        self.choice = ProgramProfiles(lambda _: programs, self.begun.append)

    def read(self, path: str, mode: int = 0o755) -> None:
        entry = Entry(path.rpartition("/")[2].encode(), 0o100000 | mode, 0, 0, 0, 10, nlink=1)
        if self.choice.waits_for(IMAGE):
            self.choice.read(IMAGE, path.encode(), ReadPlan(1, "r", entry, 0, 10, [], None))


@pytest.mark.parametrize(
    ("programs", "read", "begun"),
    [
        ({}, [], [OWN]),
        ({b"usr/bin/root": ROOT}, [], [ROOT]),
        (BOTH, [], []),
        (BOTH, ["usr/bin/python3"], [PYTHON]),
        (BOTH, ["usr/bin/other", "usr/bin/python3", "usr/bin/third"], [OWN, PYTHON]),
    ],
)
def test_the_executable_that_is_read_decides(
    programs: dict[bytes, ObjectRef], read: list[str], begun: list[ObjectRef]
) -> None:
    choices = Choices(programs)
    choices.choice.entered(IMAGE, OWN)
    choices.read("etc/passwd", 0o644)
    choices.read("lib/libc.so.6")
    for path in read:
        choices.read(path)
    assert choices.begun == begun


def test_images_and_programs_that_wait_are_bounded() -> None:
    choices = Choices(BOTH)
    for number in range(WAITING + 10):
        choices.choice.entered(Digest(sha256(b"%d" % number)), None)
    assert len(choices.choice._waiting) == WAITING
    choices.choice.entered(IMAGE, OWN)
    for number in range(PROGRAMS):
        choices.read(f"bin/{number}")
    assert not choices.choice.waits_for(IMAGE)
    assert choices.begun == [OWN]
