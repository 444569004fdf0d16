"""Recorded starts that lists wish: they run without keys, credentials and network, within limits, and their
failures never prevent the publication of an image."""

import os
import re
import signal
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lazyfs.core import profile
from lazyfs.core.digest import sha256
from lazyfs.core.errors import UsageError
from lazyfs.repository.commit import read_revision
from lazyfs.repository.diff import resolve
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import open_store, reader
from lazyfs.sync.report import Report
from lazyfs.sync.settings import read_settings
from lazyfs.sync.start_recorder import PREFIX, RecordingFailed, StartRecorder
from lazyfs.sync.starts import StartSettings
from tests.support.cli import LAZYFS, lazyfs, new_repository
from tests.support.fake_registry import FakeRegistry
from tests.support.oci_images import Built, entry, layer
from tests.support.service import ServiceSite, built, events_of
from tests.support.until import until

pytestmark = pytest.mark.root
READ, UNREAD = os.urandom(1 << 20), os.urandom(1 << 20)
SHELL = layer(
    entry("bin/busybox", data=Path("/bin/busybox").read_bytes(), mode=0o755),
    *(
        entry(f"bin/{tool}", b"2", linkname="busybox")
        for tool in ("sh", "cat", "sleep", "dd", "test", "grep", "wc", "ls", "true", "tail")
    ),
    entry("read", data=READ),
    entry("unread", data=UNREAD),
)
TOKEN = b"100071"
"""A word on the command lines of the recorded starts, and of no other process."""
PLACE = "r.example/team/app:1"


@pytest.fixture
def registry(registry: FakeRegistry) -> FakeRegistry:
    registry.add(Built([SHELL]), "1")
    return registry


@pytest.fixture
def site(site: ServiceSite) -> ServiceSite:
    site.clock = datetime.now(UTC) - timedelta(days=1)  # mounts go by the machine's
    return site


def wish(site: ServiceSite, command: str, *tags: str) -> None:
    entries = "".join(
        f"  - image: r.example/team/app:{tag}\n    profile: {command}\n" for tag in tags or ("1",)
    )
    site.list.write_text(f"lazyfs: 1\nimages:\n{entries}")


def run(site: ServiceSite, *, seconds: float = 60, memory: int = 2 << 30, **options: Any) -> Report:
    """Does a run of a service that may record starts."""
    with closing(StartRecorder(str(site.repository.path), seconds, memory)) as recorder:
        return site.run(starts=StartSettings(recorder, 20), **options)


def members(site: ServiceSite, place: str = PLACE) -> set[bytes] | None:
    """Returns the objects of an image's profile; None if it has none."""
    return members_in(site.tree(), place)


def members_in(tree: StoredTree, place: str) -> set[bytes] | None:
    ref = profile.hinted(resolve(tree, place).node.entry)
    return {one.digest for one in profile.decode(tree.read(ref)).contents()} if ref else None


def running(word: bytes) -> dict[int, bytes]:
    """Returns the processes with this word on their command line: process id -> command line."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            line = Path("/proc", name, "cmdline").read_bytes()
            if word in line:
                found[int(name)] = line
    return found


def test_what_a_start_reads_is_the_images_profile(site: ServiceSite, registry: FakeRegistry) -> None:
    wish(site, "cat /read")
    report = run(site)
    assert (report.exit_code, report.notices) == (0, [])
    found = members(site)
    assert found is not None
    assert sha256(READ) in found
    assert sha256(UNREAD) not in found
    assert site.repository.check().bad == 0
    first = site.tree().root().entry
    assert run(site).notices == []
    assert site.tree().root().entry == first, "recorded once"
    wish(site, "cat /read", "1", "2")
    registry.add(Built([SHELL]), "2")
    site.run()
    assert members(site, "r.example/team/app:2") == found, "another tag of the image keeps it"
    wish(site, "cat /unread")
    run(site)
    assert sha256(UNREAD) in (members(site) or ())


def test_a_start_has_no_keys_no_credentials_and_no_network(
    site: ServiceSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "hunter-number-two"
    monkeypatch.setenv("REGISTRY_PASSWORD", secret)
    (tmp_path / "password").write_text(secret)
    hidden = (tmp_path / "password", site.repository.path, site.status, Path.home() / ".config")
    checks = [
        *(f"test ! -e {path}" for path in hidden),
        'test -z "$REGISTRY_PASSWORD"',
        f"! grep -q {secret[:-1]}[{secret[-1]}] /proc/*/environ /proc/*/cmdline",
        "test $(cat /proc/net/dev | grep : | grep -vc lo:) = 0",
        "! cat /dev/fuse",
        "! dd if=/bin/sh of=/read",
    ]
    command = "; ".join(f"{{ {check}; }} || exit {number}" for number, check in enumerate(checks, 10))
    site.list.write_text(
        "lazyfs: 1\nimages:\n  - image: r.example/team/app:1\n    profile:\n"
        + "".join(f"      - '{word}'\n" for word in ("sh", "-c", command))
    )
    report = run(site)
    assert report.notices == []
    assert members(site) is not None


def test_no_process_of_a_recording_has_the_services_environment(
    site: ServiceSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the mount's process nor the process that starts the command has the service's environment. So a
    program that breaks out of the sandbox finds no secret in them."""
    monkeypatch.setenv("REGISTRY_PASSWORD", "hunter-number-two")
    site.wish("r.example/team/app:1")
    site.run()
    maker = StartRecorder(str(site.repository.path), 60, 2 << 30)
    with closing(maker) as recorder, ThreadPoolExecutor() as pool:
        recording = pool.submit(recorder.record, PLACE, [["sleep", TOKEN.decode()]])
        until(lambda: bool(sleeping()) or recording.done(), 60)
        assert not recording.done(), recording.result()
        found = running(PREFIX.encode())
        assert len(found) >= 2
        for pid in found:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"REGISTRY" not in environment
            assert b"HOME=/" not in environment.replace(f"HOME={tempfile.gettempdir()}".encode(), b"")
        for pid in sleeping():
            os.kill(pid, signal.SIGTERM)
        with pytest.raises(RecordingFailed, match="exit code 143"):
            recording.result(60)


def sleeping() -> list[int]:
    """Returns the ids of the recorded programs: the processes whose whole command line is `sleep TOKEN`."""
    return [pid for pid, line in running(TOKEN).items() if line == b"sleep\0" + TOKEN + b"\0"]


def test_a_command_that_goes_on_is_ended_and_what_it_has_read_counts(site: ServiceSite) -> None:
    wish(site, "sh -c 'cat /read >/dev/null; sleep 100071'")
    assert run(site, seconds=2).notices == []
    assert sha256(READ) in (members(site) or ())
    assert running(TOKEN) == {}


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (
            "sh -c 'for i in 1 2 3 4; do dd if=/dev/zero of=/tmp/$i bs=1M count=100; done; sleep 100071'",
            "it takes over 256.0 MiB of memory",
        ),
        (
            "sh -c 'for i in 1 2 3; do tail -c 120100071 /dev/zero & done; wait'",
            "it takes over 256.0 MiB of memory",
        ),
        ("dd if=/dev/zero of=/tmp/100071 bs=1M count=1000", "it"),
        ("tail -c 900100071 /dev/zero", "it"),
    ],
)
def test_a_command_that_takes_too_much_is_ended_and_the_image_stays(
    site: ServiceSite, command: str, reason: str
) -> None:
    """The memory is taken by files in /tmp or by several processes together. A single file or process may
    instead fail at its own limit, so its message differs."""
    wish(site, command)
    report = run(site, memory=256 << 20)
    (notice,) = report.notices
    assert f"{PLACE}: its start was not recorded: {reason}" in notice
    assert members(site) is None
    assert events_of(report, "published") == [PLACE]
    assert running(TOKEN) == {}


def test_each_process_of_a_start_has_limits(site: ServiceSite) -> None:
    """The limits are compared in ulimit's units: KiB for data, blocks of 512 bytes for files. Core dumps are
    off."""
    wish(site, """sh -c 'test "$(ulimit -d) $(ulimit -f) $(ulimit -c)" = "262144 524288 0"'""")
    assert run(site, memory=256 << 20).notices == []
    assert members(site) is not None


def test_a_command_that_fails_is_said_once_and_tried_again_when_it_changes(site: ServiceSite) -> None:
    wish(site, "sh -c 'exit 3'")
    (notice,) = run(site).notices
    assert "its command ended with exit code 3 (whose failure: program)" in notice
    assert PLACE in site.images()
    assert run(site).notices == []
    wish(site, "/no/such")
    assert "exit code 127" in run(site).notices[0]
    wish(site, "true")
    assert run(site).notices == []
    assert members(site) is not None


def test_what_a_killed_run_has_left_is_cleared(
    site: ServiceSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left, living = tmp_path / f"{PREFIX}{1 << 22}-x", tmp_path / f"{PREFIX}{os.getpid()}-y"
    for folder in (left / "mnt", left / "home", living):
        folder.mkdir(parents=True)
    site.wish("r.example/team/app:1")
    site.run()
    lazyfs("mount", site.repository.path, left / "mnt", "--cache", left / "cache")
    assert os.path.ismount(left / "mnt")
    wish(site, "true")
    assert run(site).notices == []
    assert not left.exists()
    assert living.exists()


def test_one_run_records_as_many_as_it_may_and_the_next_goes_on(
    site: ServiceSite, registry: FakeRegistry
) -> None:
    other = Built([SHELL, layer(entry("other", data=b"x"))])
    registry.add(other, "2")
    wish(site, "cat /read", "1", "2")
    with closing(StartRecorder(str(site.repository.path), 60, 2 << 30)) as recorder:
        site.run(starts=StartSettings(recorder, 1))
        assert [members(site, f"r.example/team/app:{tag}") is None for tag in (1, 2)] == [False, True]
        site.run(starts=StartSettings(recorder, 1))
    assert members(site, "r.example/team/app:2") is not None


def test_where_it_is_not_allowed_the_image_is_published_without_and_that_is_said_once(
    site: ServiceSite, registry: FakeRegistry
) -> None:
    registry.add(built("other"), "2")
    wish(site, "cat /read", "1", "2")
    report = site.run()
    (notice,) = report.notices
    assert "the configuration does not allow" in notice
    assert "published without one: 2 images" in notice
    assert (report.exit_code, len(site.images())) == (0, 2)


def test_where_fuse_is_missing_images_are_published_without_and_that_is_said_once(
    tmp_path: Path, registry: FakeRegistry
) -> None:
    new_repository(tmp_path)
    registry.add(Built([SHELL, layer(entry("other"))]), "2")
    (tmp_path / "list.yaml").write_text(
        "lazyfs: 1\ndefaults: {profile: cat /read}\nimages: [r.example/team/app:1, r.example/team/app:2]\n"
    )
    (tmp_path / "service.toml").write_text(
        f'[registries."r.example"]\naddress = "{registry.host}"\nplain-http = true\n'
        "[profiles]\nallowed = true\n"
    )
    command = [
        *LAZYFS, "sync", str(tmp_path / "list.yaml"), str(tmp_path / "store"),
        "--keys", str(tmp_path / "keys"), "--config", str(tmp_path / "service.toml"),
        "--status-dir", str(tmp_path / "status"),
    ]  # fmt: skip
    without = ["unshare", "-m", "sh", "-c", 'mount --bind /dev/null /dev/fuse && exec "$@"', "sh"]
    done = subprocess.run([*without, *command], check=False, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert "2 published" in done.stdout
    assert done.stderr.count("no start can be recorded here: lazyfs mount: ") == 1
    assert "published without one: 2 images" in done.stderr
    again = lazyfs(*command[len(LAZYFS) :])
    assert "no start" not in again.stderr
    store = open_store(str(tmp_path / "store"))
    tree = StoredTree(reader(store), read_revision(store).root)
    assert members_in(tree, PLACE)
    assert members_in(tree, "r.example/team/app:2")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seconds = 0", "profiles: seconds = 0"),
        ("memory = '1M'", "profiles: memory '1M' is below 256M"),
        ("memory = 'much'", "profiles: memory 'much' is no size"),
        ("images-per-run = 0", "profiles: images-per-run = 0"),
        ("allowed = 'yes'", "allowed"),
    ],
)
def test_bounds_that_are_none(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "service.toml"
    config.write_text(f"[profiles]\n{text}\n")
    with pytest.raises(UsageError, match=re.escape(said)):
        read_settings(str(config))
