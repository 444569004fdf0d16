"""The figures in the pages for operators and publishers are those of the code."""

from pathlib import Path

import pytest

from lazyfs.client import objects, unused_window
from lazyfs.core import bounds
from lazyfs.core.layers import entry_budget, tar
from lazyfs.core.oci import manifest
from lazyfs.core.params import Params
from lazyfs.daemon import control_client, unmount, unmount_users
from lazyfs.daemon.reporting import sender
from lazyfs.daemon.survival import keeper
from lazyfs.images import layer_reader
from lazyfs.images.profiles import guessed
from lazyfs.images.registry import client, tokens
from lazyfs.node import probe, report_parts
from lazyfs.node.checks import clock, limits, names, paths
from lazyfs.prefetch import guess_budget, libraries, profile_schedule, profiles, walks, whole_image
from lazyfs.repository import commit, lifecycle
from lazyfs.sync import notifier, registry_pace, resolution
from lazyfs.sync.collecting import reporters, reports
from lazyfs.sync.settings import ServiceSettings
from lazyfs.vfs import shared_files, slots

DOCS = Path(__file__).parents[2] / "docs"
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
ARCHIVE = layer_reader.LayerLimits()
SERVICE = ServiceSettings()

MOUNTING = [
    f"up to {profiles.AT_ONCE} objects at a time, and {unused_window.FREE / 1e6:g} MB until something",
    f"then {unused_window.FIRST_GAIN} bytes for each byte that was read, up to "
    f"{unused_window.FIRST // MIB} MiB",
    f"waits for it, {objects.COPY_PATIENCE:g} s and half of its patience",
    f"of the {objects.THREADS} requests and {objects.UNDER_WAY // MIB} MiB that a mount has under way",
    f"({libraries.FILES} of up to {libraries.LARGEST // MIB} MiB)",
    f"{walks.FIRST // MIB} MiB, and as much more as the reader has read of it, up to {walks.MOST // MIB} MiB",
    f"stay below {guess_budget.FREE // MIB} MiB and a twentieth",
    f"in {control_client.SECONDS:g} s, nor the filesystem itself in another {unmount.CERTAIN:g}",
    f"a file of at least {shared_files.MIN_SIZE // KIB} KiB that is equal",
    f"Up to {slots.IDLE:,} such slots wait",
]
NODE = [
    f"does not answer in {probe.LOOK_SECONDS:g} s",
    f"a call has waited for more than {probe.LONG_WAIT:g} s",
    f"fewer than {limits.LEAST_FILES:,} open files or {limits.LEAST_MEMORY // MIB} MiB of memory",
    f"known only after {names.SLOW:g} s",
    f"more than {clock.MOST_APART:g} s from those of all servers",
    f"At most {paths.MOST} paths are tried",
    f"the last {report_parts.LAST_BYTES // KIB} KiB of each log",
    f"SIGTERM, after {unmount_users.TERM_SECONDS:g} s SIGKILL",
    f"Daemons that die within {keeper.SOON:g} s of serving are started later and later: "
    f"{', '.join(f'{pause:g}' for pause in keeper.PAUSES)} s",
]
PUBLISHING = [
    f"Small files (up to {Params().pack_files // MIB} MiB) are stored in [packs](format.md) of about "
    f"{Params().pack_target // MIB} MiB",
    f"at most {tokens.MAX_TOKEN // KIB} KiB, {client.MAX_TAG_PAGE // MIB} MiB and "
    f"{manifest.MAX_MANIFEST // MIB} MiB are held",
    f"said to have over {client.MAX_BLOB // GIB} GiB",
    f"over {ARCHIVE.bytes // (1 << 40)} TiB or, beyond {ARCHIVE.free // GIB} GiB, {ARCHIVE.ratio} bytes per "
    f"stored byte; headers over {tar.MAX_HEADER // MIB} MiB; an image with over "
    f"{entry_budget.ENTRIES // 1_000_000} million entries, or over {entry_budget.HEADERS // MIB} MiB of "
    f"extended headers (long names, attributes) beyond {entry_budget.ENTRY} bytes an entry",
    f"links to paths over {bounds.PATH:,} bytes, attributes with names over {bounds.XATTR:,} bytes together",
    f"over {guessed.DIRECT // MIB} MiB, and of other libraries over {guessed.WHOLE // MIB} MiB, the first "
    f"{guessed.FIRST // MIB} MiB are taken",
    f"and {reporters.MOST_AN_HOUR} reports an hour",
    f"they are bounded ({reports.MOST_IMAGES:,} images, {reports.MOST_PROGRAMS} programs of each",
]
SERVICE_PAGE = [
    f"have {client.MAX_TAGS:,} tags on {client.MAX_TAG_PAGES:,} pages",
    f"one wish may mean {resolution.MOST_CHOSEN:,} images",
    f"images-at-once = {SERVICE.images_at_once} ",
    f"images-per-revision = {SERVICE.images_per_revision} ",
    f"minutes-per-revision = {SERVICE.minutes_per_revision:g} ",
    f"max-delete = {SERVICE.max_delete} ",
    f"at its end the last messages have {notifier.PATIENCE:g} s",
]
TRUST = [
    f"| root | `N.root.json` | `root-*.pem` | whose keys count for which role | "
    f"{lifecycle.ROOT_DAYS // 365} years |",
    f"format parameters | {commit.PUBLISHER_DAYS} days |",
    f"([format.md](format.md)) | {commit.TIMESTAMP_DAYS} days |",
]


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (page, each)
        for page, all_said in (
            ("mounting", MOUNTING),
            ("node", NODE),
            ("publishing", PUBLISHING),
            ("service", SERVICE_PAGE),
            ("trust", TRUST),
        )
        for each in all_said
    ],
    ids=lambda text: text[:30],
)
def test_a_figure_of_a_page_is_the_codes(page: str, said: str) -> None:
    text = " ".join((DOCS / f"{page}.md").read_text().split())
    assert said in text


def test_the_figures_in_words_are_the_codes() -> None:
    """These pages write small numbers as words."""
    assert registry_pace.FAILURES == 12, "service.md: leaves twelve requests in a row without an answer"
    assert whole_image.AT_ONCE == 8, "mounting.md: eight at a time"
    assert profile_schedule.FAILURES == 3, "mounting.md: of which three objects were missing or wrong"
    assert (sender.PAUSE, sender.REST) == (120, 3600), "mounting.md: every two minutes, an hour later"
