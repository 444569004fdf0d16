"""The start of a mount: what its processes import before it answers, and its behaviour until all modules are
loaded."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

import lazyfs as lazyfs_package
import lazyfs_cache
from lazyfs.system import mountpoint as points
from lazyfs.vfs.catalogs import ENTRIES_AT_ONCE
from tests.support.cli import LAZYFS, lazyfs, mounted, serving, status
from tests.support.images import image, live
from tests.support.repository import Published
from tests.support.until import until

pytestmark = pytest.mark.root

HEAVY = {
    "asyncio", "click", "concurrent", "email", "http", "prometheus_client", "pycurl", "pyfuse3", "requests",
    "rich", "ssl", "subprocess", "tomllib", "trio", "tuf", "urllib3", "xml",
}  # fmt: skip
"""Top-level modules that cost more time at the start than they save."""
SPARED = {"inspect", "lmdb", "urllib"}
"""Top-level modules that a mount of a plain URL on a warm cache needs only after it answers."""
MODULES_OF_A_MOUNT = 280
"""Bound on the modules that the command and the daemon together (now 274) import before the mount answers. It
includes those of the interpreter and of an editable install. Imports take most of the processor
time of a mount."""
UNNEEDED = {"asyncio", "click", "email", "http", "prometheus_client", "requests", "rich", "urllib3", "xml"}
"""Top-level modules that no mount with pycurl needs."""
LATER = (
    "lazyfs.core.collected_profiles",
    "lazyfs.core.history",
    "lazyfs.core.reach",
    "lazyfs.core.start_reports",
    "lazyfs.daemon.reporting.starts",
    "lazyfs.prefetch.whole_image",
)
"""Modules that a start from an empty cache does without. Those of every mount are imported later."""
OURS_OF_A_COLD_MOUNT = 280
"""Bound on the modules of our own (now 274) that a mount has loaded when the first program on an empty cache
has read a file. The import of one takes 0.15 ms; the whole start takes 210 ms of processor time."""
PATTERNS = {"lazyfs.core.chain.notation._PLAIN", "lazyfs.daemon.log._VARYING"}
"""The regular expressions that modules of a mount compile when they are imported: every mount uses both. One
takes 0.1 to 0.3 ms."""
NAMED_TUPLES = 19
"""Bound on the number of NamedTuples among the classes of a mount. One takes 70 us at the import, a Struct of
msgspec 10."""
COSTLY = """
import re
ours = [(name, module) for name, module in sys.modules.items() if name.startswith("lazyfs")]
print(*sys.modules)
print(*{
    f"{name}.{key}" for name, module in ours for key, one in vars(module).items() if type(one) is re.Pattern
})
print(*{
    f"{one.__module__}.{one.__name__}" for _, module in ours for one in vars(module).values()
    if isinstance(one, type) and issubclass(one, tuple) and one.__module__.startswith("lazyfs")
})
"""
"""Prints three lines: the modules that are loaded; the compiled regular expressions that modules of lazyfs
hold; the NamedTuples of lazyfs."""
CLI_MODULES = {"--help": 155, "run": 260, "status": 200, "umount": 200}


def imported(log: str) -> Iterator[str]:
    """Yields the names of the modules that a process with `-X importtime` reports."""
    for line in log.splitlines():
        if line.startswith("import time:") and not line.endswith("imported package"):
            yield line.rpartition("|")[2].strip()


def reporting(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """Runs a command that reports its imports on standard error."""
    command = [sys.executable, "-X", "importtime", *LAZYFS[1:], *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=100)


def top_level(modules: Iterator[str] | list[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def test_a_mount_with_a_trusted_revision_imports_little_before_it_answers(
    published: Published, tmp_path: Path
) -> None:
    mnt, cache, log = tmp_path / "mnt", tmp_path / "cache", tmp_path / "log"
    with serving(published.store) as url:
        with mounted(url, mnt, "--cache", cache, "--trust", published.store / "metadata/1.root.json"):
            pass
        command = reporting("mount", url, mnt, "--cache", cache, "--log", log)
        try:
            until(lambda: "mounted" in log.read_text())
            before_the_answer = log.read_text().partition("INFO lazyfs.daemon.answering_mount: mounted")[0]
            modules = [*imported(command.stderr), *imported(before_the_answer)]
            print(len(list(imported(command.stderr))), len(list(imported(before_the_answer))))
            assert len(modules) < MODULES_OF_A_MOUNT
            assert not top_level(modules) & (HEAVY | SPARED)
            assert "encodings.ascii" not in modules  # for files of the kernel's, which UTF-8 reads as well
            assert "lazyfs_cache.standing_values" in modules
            # Imported before the forks: whatever pages an import changes are not copied for a second process.
            assert "lazyfs.daemon.survival.keeper" in imported(command.stderr)
            assert "lazyfs.fuse.direct.session" in modules  # the log was read up to the right place
        finally:
            lazyfs("umount", mnt)


def test_an_ordinary_install_spares_a_mount_what_an_editable_one_imports() -> None:
    """The finder of an editable install imports tempfile, and with it shutil, bz2, lzma and random, in every
    process. This would hide an import of them by lazyfs."""
    packages = (lazyfs_package.__path__[0], lazyfs_cache.__path__[0], msgspec.__path__[0])
    modules = (
        "cli.mount_program",
        "daemon.detach",
        "daemon.process",
        "daemon.answering_mount",
        "daemon.mount_cache",
        "fuse.direct.session",
    )
    program = (
        f"import sys; sys.path += {[str(Path(package).parent) for package in packages]}\n"
        f"import {', '.join(f'lazyfs.{module}' for module in modules)}\n{COSTLY}"
    )
    done = subprocess.run([sys.executable, "-S", "-c", program], check=True, capture_output=True, text=True)
    loaded, patterns, tuples = (line.split() for line in done.stdout.splitlines())
    found = top_level(loaded)
    assert {"lazyfs", "cryptography"} <= found
    assert not found & (HEAVY | {"bz2", "editables", "lzma", "random", "shutil", "tempfile"})
    assert "lazyfs.core.chain.faults" not in loaded  # a list of 30 faults, 0.3 ms, for misses only
    assert set(patterns) == PATTERNS
    assert len(tuples) <= NAMED_TUPLES, tuples


def later_imports(log: Path, loaded: int) -> list[str]:
    """Returns the modules that a log names from the offset `loaded` on."""
    later = imported(log.read_text()[loaded:])
    return [name for name in later if not name.startswith(("encodings.", "linecache"))]


def loaded(log: Path) -> int:
    """Waits until the daemon has loaded all modules; returns the length of its log by then."""
    until(lambda: "all modules are loaded" in log.read_text())
    return len(log.read_text())


@pytest.mark.parametrize("http", ["pycurl", "requests"])
def test_nothing_is_imported_once_a_mount_is_under_way(
    http: str, published: Published, tmp_path: Path
) -> None:
    """If the package is replaced while the mount is served, a later import would mix new modules with old
    ones."""
    mnt, cache, log = tmp_path / "mnt", tmp_path / "cache", tmp_path / "log"
    with serving(published.store) as url:
        with mounted(url, mnt, "--cache", cache, "--trust", published.store / "metadata/1.root.json"):
            pass
        reporting("mount", url, mnt, "--cache", cache, "--log", log, "--http", http)
        try:
            begin = loaded(log)
            assert (mnt / "lib/a:1/big").read_bytes() == b"x" * 300_000
            published.commit(live(published.objects, {"lib": {"b:1": image(published.objects, {"f": b"2"})}}))
            lazyfs("refresh", mnt)
            assert (mnt / "lib/b:1/f").read_bytes() == b"2"
            assert status(mnt)["repositories"]["test.example.org"]["revision"] == 3
        finally:
            lazyfs("umount", mnt)
        assert not later_imports(log, begin)
        # With libcurl, the other client is not loaded, nor what it needs: urllib3, email, http, 40 ms.
        assert ("urllib3" in imported(log.read_text())) is (http == "requests")


@pytest.mark.parametrize("http", ["pycurl", "requests"])
def test_a_site_imports_nothing_for_a_repository_that_is_opened_late(
    http: str, published: Published, tmp_path: Path
) -> None:
    """A site opens a repository when a program first looks into it."""
    mnt, log, config = tmp_path / "mnt", tmp_path / "log", tmp_path / "site.toml"
    mnt.mkdir()
    with serving(published.store) as url:
        config.write_text(
            f'http = "{http}"\n[repositories."{published.name}"]\nurl = "{url}"\n'
            f'trust = "{published.store}/metadata/1.root.json"\nrevision = "1"\n'
        )
        reporting("mount", "--config", config, mnt, "--cache", tmp_path / "cache", "--log", log)
        try:
            begin = loaded(log)
            assert (mnt / published.name).is_dir()
        finally:
            lazyfs("umount", mnt)
        assert not later_imports(log, begin)


@pytest.mark.parametrize("command", sorted(CLI_MODULES))
def test_short_commands_import_little(command: str, published: Published, tmp_path: Path) -> None:
    mnt, cache = tmp_path / "mnt", tmp_path / "cache"
    arguments = {"--help": [], "run": ["--explain", "/", "--", "x"]}.get(command, [str(mnt)])
    with mounted(published.store, mnt, "--cache", cache):
        modules = list(imported(reporting(command, *arguments).stderr))
        if command == "umount":
            lazyfs("mount", published.store, mnt, "--cache", cache)
    # --explain tries every runtime, and docker's daemon is asked over HTTP.
    wanted = {"subprocess", "http", "email", "ssl", "click"} if command == "run" else {"click"}
    assert not top_level(modules) & (HEAVY | {"cryptography", "lmdb", "zstandard"}) - wanted
    print(len(modules))
    assert len(modules) < CLI_MODULES[command]


@pytest.mark.parametrize("kind", ["direct", "pyfuse3"])
def test_what_was_published_since_the_last_mount_is_there_at_once(
    kind: str, published: Published, tmp_path: Path
) -> None:
    mnt, options = tmp_path / "mnt", ("--cache", tmp_path / "cache", "--fuse", kind)
    with mounted(published.store, mnt, *options):
        pass
    tree = {"lib": {"b:1": image(published.objects, {"f": b"2"})}}
    published.commit(live(published.objects, tree))
    with mounted(published.store, mnt, *options):
        assert (mnt / "lib/b:1/f").read_bytes() == b"2"
        with pytest.raises(FileNotFoundError):
            (mnt / "lib/c:1").stat()


def test_a_name_that_no_server_can_tell_of_is_missing_in_the_end(
    published: Published, tmp_path: Path
) -> None:
    mnt, cache = tmp_path / "mnt", tmp_path / "cache"
    with (
        serving(published.store) as url,
        mounted(url, mnt, "--cache", cache, "--trust", published.store / "metadata/1.root.json"),
    ):
        assert (mnt / "lib/a:1/f").read_bytes() == b"1"
    with mounted(url, mnt, "--cache", cache, "--patience", "1"):
        with pytest.raises(FileNotFoundError):
            (mnt / "lib/c:1").stat()
        assert (mnt / "lib/a:1/f").read_bytes() == b"1"


LEFT_ALONE = """
import signal, sys
from lazyfs.daemon import answering_mount, process
from lazyfs.daemon.settings import Settings
from lazyfs.daemon.survival.keeper_line import KeeperLine

answering_mount.ALONE = 3600
signal.signal(signal.SIGUSR1, lambda *_: print("trio" in sys.modules, flush=True))
mountpoint, store, cache = sys.argv[1:]
process.run(
    Settings(source=store, mountpoint=mountpoint, cache=cache),
    {},
    lambda notes: print("trio" in sys.modules, flush=True),
    None,
    KeeperLine(None),
)
print("trio" in sys.modules)
"""


@contextmanager
def left_alone(mnt: Path, store: Path, cache: Path) -> "Iterator[subprocess.Popen[str]]":
    """Yields a daemon that loads its event loop only when it is needed; ends it whatever the test does."""
    command = [sys.executable, "-c", LEFT_ALONE, *map(str, (mnt, store, cache))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        try:
            assert daemon.stdout is not None
            assert daemon.stdout.readline() == "False\n"
            yield daemon
        finally:
            daemon.kill()
            subprocess.run(["umount", "--lazy", "--quiet", mnt], check=False)


@pytest.mark.parametrize("event", ["miss", "caller", "unmount"])
def test_a_mount_that_is_left_alone_hears_of_work(event: str, published: Published, tmp_path: Path) -> None:
    """The event loop is loaded when a request lacks an object, when `lazyfs status` asks, and at the end."""
    mnt, cache = tmp_path / "mnt", tmp_path / "cache"
    with mounted(published.store, mnt, "--cache", cache):
        (mnt / "lib/a:1/f").read_bytes()
    with left_alone(mnt, published.store, cache) as daemon:
        assert (mnt / "lib/a:1/f").read_bytes() == b"1"
        if event == "miss":
            assert (mnt / "lib/a:1/big").read_bytes() == b"x" * 300_000
        elif event == "caller":
            assert status(mnt)["repositories"]["test.example.org"]["revision"] == 2
        subprocess.run(["umount", mnt], check=True)
        assert daemon.communicate(timeout=60)[0] == "True\n"


def test_a_large_directory_is_decoded_without_the_event_loop(published: Published, tmp_path: Path) -> None:
    """To load the event loop only for this would take ten times as long."""
    mnt, cache = tmp_path / "mnt", tmp_path / "cache"
    large = image(published.objects, {f"f{number}": b"1" for number in range(ENTRIES_AT_ONCE + 1)})
    published.commit(live(published.objects, {"lib": {"b:1": large}}))
    with mounted(published.store, mnt, "--cache", cache):
        assert (mnt / "lib/b:1/f7").read_bytes() == b"1"
    with left_alone(mnt, published.store, cache) as daemon:
        assert (mnt / "lib/b:1/f7").read_bytes() == b"1"
        daemon.send_signal(signal.SIGUSR1)
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == "False\n"
        subprocess.run(["umount", mnt], check=True)
        assert daemon.communicate(timeout=60)[0] == "True\n"


COLD = """
import signal, sys
from lazyfs.daemon import answering_mount, process
from lazyfs.daemon.settings import Settings
from lazyfs.daemon.survival.keeper_line import KeeperLine

answering_mount.ALONE = 3600
signal.signal(signal.SIGUSR1, lambda *_: print(*sys.modules, flush=True))
url, trust, mountpoint, cache = sys.argv[1:]
process.run(
    Settings(source=url, trust=trust, mountpoint=mountpoint, cache=cache),
    {},
    lambda notes: print("answers", flush=True),
    None,
    KeeperLine(None),
)
"""


def test_a_mount_on_an_empty_cache_loads_only_what_its_first_program_needs(
    published: Published, tmp_path: Path
) -> None:
    mnt, trust = tmp_path / "mnt", published.store / "metadata/1.root.json"
    mnt.mkdir()
    with serving(published.store) as url:
        command = [sys.executable, "-c", COLD, *map(str, (url, trust, mnt, tmp_path / "cache"))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
            try:
                assert daemon.stdout is not None
                assert daemon.stdout.readline() == "answers\n"
                assert (mnt / "lib/a:1/big").read_bytes() == b"x" * 300_000
                daemon.send_signal(signal.SIGUSR1)
                modules = daemon.stdout.readline().split()
                subprocess.run(["umount", mnt], check=True)
                assert daemon.wait(timeout=60) == 0
            finally:
                daemon.kill()
                subprocess.run(["umount", "--lazy", "--quiet", mnt], check=False)
    ours = [name for name in modules if name.partition(".")[0] in ("lazyfs", "lazyfs_cache")]
    print(len(modules), len(ours))
    assert {"trio", "tuf", "pycurl", "lazyfs.fuse.direct.session"} <= set(modules)
    assert not top_level(modules) & UNNEEDED
    assert not [name for name in ours if name.startswith(LATER)]
    assert len(ours) < OURS_OF_A_COLD_MOUNT


SIGNALLED = """
import os, signal, sys
from lazyfs.daemon import process
from lazyfs.daemon.settings import Settings
from lazyfs.daemon.survival.keeper_line import KeeperLine

def ready(notes):
    print("trio" in sys.modules)
    os.kill(os.getpid(), signal.SIGTERM)

mountpoint, store, cache = sys.argv[1:]
process.run(Settings(source=store, mountpoint=mountpoint, cache=cache), {}, ready, None, KeeperLine(None))
"""


def test_a_signal_before_the_event_loop_unmounts(published: Published, tmp_path: Path) -> None:
    mnt, cache = tmp_path / "mnt", tmp_path / "cache"
    with mounted(published.store, mnt, "--cache", cache):
        pass
    command = [sys.executable, "-c", SIGNALLED, *map(str, (mnt, published.store, cache))]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
    assert points.find(str(mnt)) is None


COLLECTED = """
import gc, logging, os, signal, sys
from lazyfs.daemon import process
from lazyfs.daemon.settings import Settings
from lazyfs.daemon.survival.keeper_line import KeeperLine

class Watcher(logging.Handler):
    def emit(self, record):
        if "all modules are loaded" in record.getMessage():
            print(gc.isenabled(), gc.get_freeze_count() > 30_000)
            os.kill(os.getpid(), signal.SIGTERM)

mountpoint, store, cache = sys.argv[1:]
logging.getLogger("lazyfs.daemon.served_mount").addHandler(Watcher())
settings = Settings(source=store, mountpoint=mountpoint, cache=cache)
process.run(settings, {}, lambda notes: print(gc.isenabled()), None, KeeperLine(None))
print(sum(generation["collections"] for generation in gc.get_stats()) < 40)
"""


@pytest.mark.parametrize("warm", [False, True])
def test_garbage_is_collected_once_all_modules_are_loaded(
    warm: bool, published: Published, tmp_path: Path
) -> None:
    """Collections during the imports would take a tenth of the start's processor time, and would find
    nothing."""
    mnt, cache = tmp_path / "mnt", tmp_path / "cache"
    mnt.mkdir()
    if warm:
        with mounted(published.store, mnt, "--cache", cache):
            pass
    command = [sys.executable, "-c", COLLECTED, *map(str, (mnt, published.store, cache))]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split()) == (0, ["False", "True", "True", "True"]), done.stderr


def test_an_operators_error_comes_before_the_answer(published: Published, tmp_path: Path) -> None:
    mnt, cache = tmp_path / "mnt", tmp_path / "cache"
    with serving(published.store) as url:
        trust = published.store / "metadata/1.root.json"
        with mounted(url, mnt, "--cache", cache, "--trust", trust):
            pass
        for options, said in (
            (["--proxy", "ftp://p:1"], "proxy"),
            (["--lower", tmp_path / "missing"], "no such directory"),
            (["--metrics", url.removeprefix("http://")], "in use"),
            (["--trust", tmp_path / "missing"], "--trust"),
            (["--ca", tmp_path / "missing"], "--ca"),
        ):
            done = lazyfs("mount", url, mnt, "--cache", cache, *options, check=False)
            assert done.returncode == 2
            assert said in done.stderr
            assert points.find(str(mnt)) is None


def test_a_root_catalog_that_is_gone_is_fetched_before_the_answer(
    published: Published, tmp_path: Path
) -> None:
    mnt, cache = tmp_path / "mnt", tmp_path / "cache"
    with mounted(published.store, mnt, "--cache", cache):
        pass
    lazyfs("cache", "--cache", cache, "evict", "all")
    with mounted(published.store, mnt, "--cache", cache):
        assert (mnt / "lib/a:1/f").read_bytes() == b"1"
