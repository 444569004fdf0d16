"""The numbers in docs/format.md are those of the code."""

from pathlib import Path

import pytest

from lazyfs.client.objects import UNDER_WAY
from lazyfs.client.unused_window import FIRST, FIRST_GAIN, FREE, GAIN
from lazyfs.core import bounds, collected_profiles, hot_packs
from lazyfs.core.history import records
from lazyfs.core.params import Params
from lazyfs.core.start_reports import report
from lazyfs.core.trust import roles
from lazyfs.prefetch import profile_schedule
from lazyfs.vfs import catalogs

PAGE = (Path(__file__).parents[2] / "docs/format.md").read_text()
TEXT = " ".join(PAGE.split())
"""The page, with its lines joined."""


def rows(head: str) -> dict[str, str]:
    """Returns first cell -> second cell of the table with this head."""
    lines = PAGE.partition(head)[2].split("\n\n")[0].splitlines()
    cells = (line.strip("| ").split(" | ") for line in lines[2:])
    return {row[0]: row[1] for row in cells}


def test_the_parameters_are_the_defaults() -> None:
    shown = rows("| parameter | default | meaning |")
    made = Params()
    for name in ("version", "chunk_shift", "catalog_entries", "pack_files", "keep_days"):
        assert int(shown[name].replace(",", "")) == getattr(made, name), name
    packs = ("pack_least", "pack_target", "pack_most")
    assert shown[", ".join(packs)] == ", ".join(f"{getattr(made, name):,}" for name in packs)


MIB, KIB = 1 << 20, 1 << 10


@pytest.mark.parametrize(
    ("field", "shown"),
    [
        ("any object, plaintext", f"{bounds.OBJECT // MIB} MiB"),
        (
            "file in one object; chunk",
            f"{bounds.OBJECT // MIB} MiB (chunk size 2^12 to 2^{bounds.MAX_SHIFT})",
        ),
        ("pack, plaintext; packs of a catalog", f"{bounds.PACK // MIB} MiB; {bounds.PACKS:,}"),
        ("chunks of a file", f"{bounds.CHUNKS:,}"),
        ("names of a directory, and of a catalog", f"{bounds.ENTRIES:,}"),
        ("directories of a catalog in one another", f"{bounds.DEPTH:,}"),
        (
            "header of a catalog",
            f"{bounds.CATALOG_HEADER // MIB} MiB; {bounds.SHARED:,} hardlink groups across catalogs",
        ),
        (
            "path at which a catalog hangs",
            f"{bounds.NESTED_PATH:,} bytes below its image, {bounds.PATH:,} below its repository",
        ),
        (
            "profile",
            f"{bounds.PROFILE // MIB} MiB; {bounds.HOT_PACKS:,} hot packs; {bounds.HOT_FILES:,} small files "
            f"in them; {bounds.PROFILE_OBJECTS:,} other objects; {bounds.PROGRAMS} programs, with paths of "
            f"{bounds.PATH:,} bytes",
        ),
        (
            "signed files (`core/trust/roles.py`)",
            f"root {roles.MAX_ROOT:,} bytes, timestamp {roles.MAX_TIMESTAMP:,}, snapshot and targets "
            f"{roles.MAX_TARGETS:,}; {roles.MAX_ROOTS} new roots and {roles.MAX_NEW_ROOTS // MIB} MiB of "
            f"them in one look, {roles.MAX_CHAIN // MIB} MiB in all",
        ),
    ],
    ids=lambda text: text[:30],
)
def test_a_row_of_the_bounds_is_the_codes(field: str, shown: str) -> None:
    assert rows("| field | bound | why |")[field] == shown


def test_the_bounds_in_the_text_are_the_codes() -> None:
    cut = hot_packs.LIMITS
    for said in (
        f"at most {bounds.INLINE_CHUNKS} chunks holds their digests itself",
        f"would take more than {bounds.INLINE_BYTES // KIB} KiB every file has a list",
        f"up to {catalogs.LIMIT // MIB} MiB, and {catalogs.LIST_LIMIT // MIB} MiB of chunk lists",
        f"{UNDER_WAY // MIB} MiB of each repository are on their way at one time, as stored",
        f"Up to {profile_schedule.PROFILES} profiles of a repository are fetched at a time",
        f"after {profile_schedule.FAILURES} objects that failed, or {FREE / 1e6:g} MB that nobody used",
        f"the profile itself, {FREE / 1e6:g} MB, and {GAIN} times what readers use of it, "
        f"or {FIRST_GAIN} times up to {FIRST // MIB} MiB",
        f"({cut.least / MIB:g} to {cut.most // MIB} MiB, {cut.target // MIB} in the mean; a quarter of that "
        f"for what is read in the first {cut.early // MIB} MiB of a start, a thirty-second for the first "
        f"{cut.first // KIB} KiB)",
        f"Groups under {cut.apart // KIB} KiB are joined",
        f"all of these together have at most {hot_packs.SPARE:.0%} that is not",
        f"At most {collected_profiles.MOST_IMAGES:,} images, {collected_profiles.MAX_SIZE // MIB} MiB",
        f"at most {report.MOST_BODY // MIB} MiB, {report.MOST_FILES:,} files "
        f"and {report.MOST_OBJECTS:,} objects",
        f"the last ones, {records.FANOUT} at most",
        f"a list for each level, {records.LEVELS} at most",
        f"of more than {records.INLINE:,} bytes are an object of their own, `[1, changes]`, "
        f"{records.MAX_CHANGES:,} at most",
    ):
        assert said in TEXT, said
