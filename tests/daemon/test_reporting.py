"""A mount reports what the first start of an image touched, if its settings say so."""

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from lazyfs.core.catalog.entry import Entry
from lazyfs.core.digest import ObjectRef, ObjectSlice, sha256
from lazyfs.core.errors import UsageError
from lazyfs.core.start_reports.report import StartReport, TouchedFile, decode, encode
from lazyfs.daemon.reporting.sender import PAUSE, REST, ReportSender, send_report
from lazyfs.daemon.reporting.starts import UNDER_WAY, WatchedStarts
from lazyfs.daemon.reporting.target import ReportTarget
from lazyfs.daemon.settings import ProfileReporting
from lazyfs.vfs.content import ReadPlan
from tests.support.cli import LAZYFS, lazyfs, mounted, serving, status
from tests.support.hook_receiver import hook_receiver
from tests.support.images import file, image, live
from tests.support.repository import Published
from tests.support.until import until

TOKEN = "a-token-of-this-site-alone"
FILES = {f"{at:02}": os.urandom(2000) for at in range(20)}


@pytest.fixture
def images(published: Published) -> Published:
    made = published.objects
    spec = {
        "bin": {name: file(made, os.urandom(3000), mode=0o755) for name in ("app", "other")},
        "lib": {"libc.so.6": file(made, b"libc", mode=0o755)},
        "data": FILES,
    }
    published.commit(live(made, {"lib": {"app:1": image(made, spec)}}))
    return published


@contextmanager
def collecting(images: Published, directory: Path) -> Iterator[str]:
    """Runs `lazyfs collect` with a key of its own; yields the URL to which workers send reports."""
    key, tokens = directory / "profiles-key", directory / "tokens"
    lazyfs("repo", "delegate", images.store, "--to", key, "--keys", images.keys)
    tokens.write_text(f"site {TOKEN}\n")
    tokens.chmod(0o600)
    command = [*LAZYFS, "collect", str(images.store), "--listen", "127.0.0.1:0", "--tokens", str(tokens)]
    command += ["--keys", str(key), "--state", str(directory / "state"), "--least", "1", "--interval", "1s"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[2]
        finally:
            process.terminate()
            assert process.wait(timeout=30) == 0


@pytest.mark.root
def test_what_one_worker_started_comes_ahead_on_the_next(images: Published, tmp_path: Path) -> None:
    trust, config = images.store / "metadata/1.root.json", tmp_path / "mount.toml"
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    with collecting(images, tmp_path) as reports, serving(images.store) as url:
        config.write_text(f'[profile]\nreport = "{reports}"\ntoken_file = "{token}"\nseconds = 1\n')
        options = ("--config", config, "--trust", trust)
        with mounted(
            url, tmp_path / "first", *options, "--cache", tmp_path / "c1", "--log", tmp_path / "log"
        ):
            place = tmp_path / "first/lib/app:1"
            for name in ("lib/libc.so.6", "bin/app", "data/03", "data/04"):
                (place / name).read_bytes()
            until((images.store / "metadata/profiles.json").exists)
            shown = lazyfs("showconfig", tmp_path / "first").stdout
            assert "profile.report" in shown
            said = shown + (tmp_path / "log").read_text()
            assert TOKEN not in said
        with mounted(url, tmp_path / "next", "--cache", tmp_path / "c2", "--trust", trust):
            mnt = tmp_path / "next"
            until(lambda: status(mnt)["repositories"][images.name]["collected"] == 1)
            (mnt / "lib/app:1/bin").stat()
            until(lambda: status(mnt)["repositories"][images.name]["profiles"]["fetched"] > 0)
            before = status(mnt)["counters"]["misses"]
            for name in ("lib/libc.so.6", "bin/app", "data/03", "data/04"):
                (mnt / "lib/app:1" / name).read_bytes()
            assert status(mnt)["counters"]["misses"] == before
    assert not list((tmp_path / "c1").rglob("*token*"))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    return path


def made(report: str, **given: str | None) -> ReportTarget:
    return ReportTarget(ProfileReporting(report=report, **given))  # type: ignore[arg-type]


def test_a_credential_goes_where_nobody_reads_it_on_the_way(target: Path, tmp_path: Path) -> None:
    token_file = str(target)
    assert made("https://collector.example/reports", token_file=token_file).token == TOKEN
    assert made("http://127.0.0.1:8098/reports", token_file=token_file).tls is None
    for url, said in (
        ("http://collector.example/reports", "https"),
        ("https://user:secret@collector.example/", "token_file"),
        ("ftp://collector.example/", "no URL"),
        ("https://collector.example:99999/", "profile.report"),
    ):
        with pytest.raises(UsageError, match=said) as error:
            made(url, token_file=token_file)
        assert "secret" not in str(error.value)
    with pytest.raises(UsageError, match="needs profile"):
        made("https://collector.example/")
    with pytest.raises(UsageError, match="No such file"):
        made("https://collector.example/", token_file=str(tmp_path / "none"))
    with pytest.raises(UsageError, match="client_cert"):
        made("https://collector.example/", client_cert=str(target))
    target.write_text("two words")
    with pytest.raises(UsageError, match="one line, the token"):
        made("https://collector.example/", token_file=token_file)


class Watched:
    """Starts of images that a mount watches, on a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.starts = WatchedStarts(threading.Lock(), lambda: self.now, 60)
        self.watcher = self.starts.of("r.example")

    def read(self, image_name: bytes, path: bytes, mode: int = 0o644) -> None:
        digest = sha256(image_name)
        entry = Entry(path.rpartition(b"/")[2], 0o100000 | mode, 0, 0, 0, 10, nlink=1)
        part = ObjectSlice(ObjectRef(sha256(path), 10), 0, 10)
        if self.watcher.waits_for(digest):
            self.watcher.read(digest, path, ReadPlan(1, "r.example", entry, 0, 10, [part], None))


def test_a_report_names_files_of_the_image_and_the_executable_read_first() -> None:
    watched = Watched()
    watched.read(b"image", b"lib/ld-linux.so.2", 0o755)
    watched.read(b"image", b"bin/app", 0o755)
    watched.read(b"image", b"bin/later", 0o755)
    watched.read(b"image", b"bin/app", 0o755)
    assert watched.starts.due(59) == []
    (report,) = watched.starts.due(60)
    names = (b"lib/ld-linux.so.2", b"bin/app", b"bin/later")
    touched = tuple(TouchedFile(name, (sha256(name),)) for name in names)
    assert report == StartReport(1, "r.example", sha256(b"image"), b"bin/app", touched)
    body = encode(report)
    for own in (os.uname().nodename, str(os.getpid()), os.environ.get("USER", "root"), os.getcwd()):
        assert own.encode() not in body.replace(b"".join(names), b"") or own == "root"


def test_a_start_that_reads_too_much_for_a_report_is_noted_no_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Regression: a search through an image of a million files took hundreds of megabytes of the daemon."""
    monkeypatch.setattr("lazyfs.daemon.reporting.starts.MOST_FILES", 3)
    watched = Watched()
    for number in range(100):
        watched.read(b"image", b"bin/%d" % number, 0o755)
    (start,) = watched.starts._under_way.values()
    assert len(start.files) == 4
    assert watched.starts.due(60) == []


def test_only_the_first_start_of_an_image_is_reported() -> None:
    """After the first start the kernel has cached the image's pages, so the mount would see only a part of
    the reads of the next start."""
    watched = Watched()
    watched.read(b"image", b"bin/app", 0o755)
    assert len(watched.starts.due(60)) == 1
    watched.now = 100
    watched.read(b"image", b"bin/app", 0o755)
    assert not watched.watcher.waits_for(sha256(b"image"))
    assert watched.starts.due(1000) == []


def test_who_looks_into_an_image_without_a_program_is_not_reported() -> None:
    watched = Watched()
    watched.read(b"image", b"etc/passwd")
    assert watched.starts.due(60) == []


def test_starts_under_way_are_bounded() -> None:
    watched = Watched()
    for number in range(UNDER_WAY + 5):
        watched.read(b"image %d" % number, b"bin/app", 0o755)
    assert len(watched.starts.due(60)) == UNDER_WAY


async def test_reports_are_sent_seldom_and_one_that_is_not_taken_costs_a_rest(target: Path) -> None:
    """Four reports are due at once, and the second one is refused. On the test's clock the sender pauses
    between two reports, and longer after the refusal."""
    watched, sent = Watched(), []
    faults = iter(["", "HTTP status 302"])

    def send(_: ReportTarget, body: bytes) -> str:
        sent.append((watched.now, decode(body).image))
        return next(faults, "")

    to = made("http://127.0.0.1:1/", token_file=str(target))
    sender = ReportSender(to, watched.starts, clock=lambda: watched.now, send=send)
    for number in range(4):
        watched.read(b"image %d" % number, b"bin/app", 0o755)
    for _ in range(600):
        watched.now += 20
        await sender.turn()
    assert [image_digest for _, image_digest in sent] == [sha256(b"image %d" % at) for at in range(4)]
    times = [moment for moment, _ in sent]
    assert [later - earlier for earlier, later in pairwise(times)] == [PAUSE, REST, PAUSE]
    assert (sender.sent, sender.failed) == (3, 1)


def test_a_report_is_sent_with_its_token_and_no_further(target: Path) -> None:
    """The sender follows no redirect, which would pass the token on to another host."""
    with hook_receiver() as collector, hook_receiver() as other:
        to = made(f"{collector.url}/reports", token_file=str(target))
        assert send_report(to, b"body") == ""
        (taken,) = collector.received
        assert (taken.path, taken.body) == ("/reports", b"body")
        assert taken.fields["authorization"] == f"Bearer {TOKEN}"
        collector.statuses, collector.location = [302, 401], f"{other.url}/"
        assert send_report(to, b"body") == "HTTP status 302"
        assert send_report(to, b"body") == "HTTP status 401"
        assert other.received == []
    assert "Error" in send_report(to, b"body")
