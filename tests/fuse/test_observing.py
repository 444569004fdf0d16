"""The means by which operators observe a mount: metrics, trace, top, and extended attributes of the tree."""

import json
import os
import shutil
import signal
import urllib.request
from pathlib import Path

import pytest

import lazyfs as program
import lazyfs_cache
from benchmarks.ports import free_port
from lazyfs.daemon.session_choice import KINDS
from tests.support.cli import lazyfs, mounted, serving, status
from tests.support.images import file, image, live
from tests.support.repository import Published
from tests.support.until import until

pytestmark = pytest.mark.root
BIG = b"b" * 200_000


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path / "run"))
    found = Published(tmp_path)
    objects = found.objects
    one = image(
        objects, {"f": b"1", "big": file(objects, BIG, shift=16), "mine": file(objects, b"m", uid=1000)}
    )
    found.commit(live(objects, {"lib": {"a:1": one}}))
    return found


def metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")
    }


def test_metrics_tell_what_status_tells(published: Published, tmp_path: Path) -> None:
    port = free_port()
    trust = str(published.store / "metadata/1.root.json")
    with serving(published.store) as url:
        options = ("--cache", tmp_path / "cache", "--metrics", f"127.0.0.1:{port}", "--trust", trust)
        dead = f"http://127.0.0.1:{free_port()}"
        with mounted(f"{dead};{url}", tmp_path / "mnt", *options) as mnt:
            assert (mnt / "lib/a:1/big").read_bytes() == BIG
            found, told = metrics(port), status(mnt)
            assert found["lazyfs_read_bytes_total"] == told["counters"]["read_bytes"] >= len(BIG)
            assert found['lazyfs_upcalls_total{type="READ"}'] == told["counters"]["upcalls"]["READ"]
            assert found["lazyfs_misses_total"] == told["counters"]["misses"] >= 2
            assert 0 < found["lazyfs_fetched_bytes_total"] <= told["counters"]["fetched_bytes"]
            assert found['lazyfs_wait_seconds_bucket{le="+Inf"}'] == found["lazyfs_wait_seconds_count"] >= 2
            assert found['lazyfs_revision{repository="test.example.org"}'] == 2
            assert found["lazyfs_cache_limit"] == told["cache"]["limit"]
            assert found[f'lazyfs_path_up{{kind="origin",name="{url}",repository="test.example.org"}}'] == 1
            path = f'kind="origin",name="{url}",repository="test.example.org"'
            assert (
                0 < found[f"lazyfs_path_bytes_total{{{path}}}"] < told["counters"]["fetched_bytes"] + 20_000
            )
            refused = f'fault="connection refused",kind="origin",name="{dead}",repository="test.example.org"'
            assert found[f"lazyfs_path_faults_total{{{refused}}}"] >= 1
            assert found["lazyfs_cache_read_bytes_total"] == told["cache"]["read_bytes"]
            assert os.getxattr(mnt / "lib/a:1/f", "user.host").decode() == url
    with pytest.raises(OSError, match="refused"):
        metrics(port)


def test_a_taken_metrics_address_is_refused(published: Published, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    with serving(published.store) as url:
        port = url.rpartition(":")[2]
        options = ("--cache", tmp_path / "cache", "--metrics", f"127.0.0.1:{port}")
        done = lazyfs("mount", published.store, tmp_path / "mnt", *options, check=False)
    assert done.returncode == 2
    assert "--metrics" in done.stderr
    assert os.listdir(tmp_path / "mnt") == []


def test_the_trace_names_what_was_read(published: Published, tmp_path: Path) -> None:
    options = ("--cache", tmp_path / "cache", "--trace", tmp_path / "trace")
    with mounted(published.store, tmp_path / "mnt", *options) as mnt:
        (mnt / "lib/a:1/f").read_bytes()
        (mnt / "lib/a:1/big").read_bytes()
    lines = [json.loads(line) for line in (tmp_path / "trace").read_text().splitlines()]
    reads = [line for line in lines if line[1] == "read"]
    assert [line[2:3] + line[4:6] for line in reads if line[2].endswith("/f")] == [
        ["lib/a:1/f", 1, "network"]
    ]
    objects = {line[3] for line in reads if line[2].endswith("big")}
    assert len(objects) == 2  # chunks 0 to 2 are equal bytes
    assert {line[3] for line in reads} <= {line[3] for line in lines if line[1] == "fetch"} | objects
    assert [line for line in lines if line[1] == "fetch" and line[6] <= 0] == []  # microseconds


def test_top_shows_rates(published: Published, tmp_path: Path) -> None:
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "cache") as mnt:
        (mnt / "lib/a:1/f").read_bytes()
        shown = lazyfs("top", mnt, "--interval", "0.1", "--count", "2").stdout
    assert "LOOKUP" in shown
    assert "revision 2" in shown


def test_everything_can_be_shown_as_one_users(published: Published, tmp_path: Path) -> None:
    options = ("--cache", tmp_path / "cache", "--uid", "1234", "--gid", "0")
    with mounted(published.store, tmp_path / "mnt", *options) as mnt:
        for name in ("lib", "lib/a:1/mine", "lib/a:1/f"):
            found = os.lstat(mnt / name)
            assert (found.st_uid, found.st_gid) == (1234, 0)


def test_operators_attributes_are_asked_for_by_name_only(published: Published, tmp_path: Path) -> None:
    with mounted(published.store, tmp_path / "mnt", "--cache", tmp_path / "cache") as mnt:
        path = mnt / "lib/a:1/big"
        assert os.listxattr(path) == []
        assert os.getxattr(path, "user.revision") == b"2"
        assert os.getxattr(path, "user.chunks") == b"4"
        assert os.getxattr(path, "user.path").endswith(b"big")
        assert os.getxattr(mnt / "lib/a:1", "user.image") == b"lib/a:1"
        assert os.getxattr(mnt / "lib/a:1/f", "user.digest").startswith(b"sha256:")
        with pytest.raises(OSError, match="No data"):
            os.getxattr(mnt / "lib", "user.digest")


@pytest.mark.parametrize("kind", KINDS)
def test_the_daemon_becomes_the_user_it_is_told_to_and_can_still_unmount(
    kind: str, open_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(open_path / "run"))
    published = Published(open_path)
    published.commit(live(published.objects, {"f": b"1"}))
    options = ("--cache", open_path / "cache", "--user", "nobody", "--fuse", kind)
    with mounted(published.store, open_path / "mnt", *options) as mnt:
        os.kill(status(mnt)["pid"], signal.SIGTERM)
        until(lambda: not os.path.ismount(mnt))
        lazyfs("mount", published.store, mnt, *options)
        pid = status(mnt)["pid"]
        assert (mnt / "f").read_bytes() == b"1"
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        assert [line.split()[1:] for line in lines if line.startswith("Uid")] == [["65534"] * 4]
        assert [line.split()[1:] for line in lines if line.startswith("CapEff")] == [["0" * 16]]
        published.commit(live(published.objects, {}))
        lazyfs("refresh", mnt)
        assert os.listdir(mnt) == []


@pytest.mark.parametrize("kind", KINDS)
def test_that_user_need_not_be_able_to_read_the_program(
    kind: str, open_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon imports everything before it becomes another user. So an installation works even where only
    root can read it."""
    for package in (program, lazyfs_cache):
        source = Path(package.__path__[0])
        shutil.copytree(source, tmp_path / "program" / source.name)
    (tmp_path / "program").chmod(0o700)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "program"))
    monkeypatch.chdir("/")  # the checkout's packages would come first
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(open_path / "run"))
    published = Published(open_path)
    published.commit(live(published.objects, {"f": b"1"}))
    trust, port = published.store / "metadata/1.root.json", free_port()
    options = ("--cache", open_path / "cache", "--user", "nobody", "--fuse", kind, "--trust", trust)
    with (
        serving(published.store) as url,
        mounted(url, open_path / "mnt", *options, "--metrics", f"127.0.0.1:{port}") as mnt,
    ):
        assert (mnt / "f").read_bytes() == b"1"
        assert metrics(port)["lazyfs_misses_total"] > 0


def test_df_shows_the_cache_and_the_repositorys_files(published: Published, tmp_path: Path) -> None:
    options = ("--cache", tmp_path / "cache", "--cache-limit", "64M")
    with mounted(published.store, tmp_path / "mnt", *options) as mnt:
        found = os.statvfs(mnt)
        assert found.f_blocks * found.f_frsize == 64 << 20
        assert 0 < found.f_bfree < found.f_blocks
        assert found.f_files == 5
    with mounted(published.store, tmp_path / "mnt", *options[:2], "--cache-limit", "0") as mnt:
        assert os.statvfs(mnt).f_bfree == 0
        assert (mnt / "lib/a:1/big").read_bytes() == BIG
