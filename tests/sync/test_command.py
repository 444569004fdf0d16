"""`lazyfs sync` as an operator runs it: published wishlists of real sites, with a local registry in place of
the registries that they name."""

import fcntl
import json
import os
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from lazyfs.repository.commit import read_revision
from lazyfs.repository.stored_tree import StoredTree
from lazyfs.store import open_store, reader
from tests.core.test_wishlist_formats import CERN, OSG
from tests.support.cli import LAZYFS, lazyfs, new_repository
from tests.support.fake_registry import fake_registry
from tests.support.nginx import NginxOrigin
from tests.support.oci_images import entry, layer
from tests.support.processes import has_open
from tests.support.registry import RealRegistry
from tests.support.service import built
from tests.support.until import until

BASE = layer(*[entry(f"base{number}", data=b"%d" % number * 5000) for number in range(50)])


@pytest.fixture(scope="module")
def registry(real: RealRegistry) -> RealRegistry:
    for image in (
        "library/centos:centos7", "engineen/ilcsoft:test", "llorente/threejet-nnlo:0.1",
        "llorente/threejet-nnlo:0.2", "atlas/athanalysis:21.2.10", "atlas/athanalysis:21.3.1",
        "library/centos:latest", "library/debian:latest", "opensciencegrid/osgvo-el7:latest",
        "htc/rocky:8",
    ):  # fmt: skip
        repository, _, tag = image.partition(":")
        real.put(built(image.replace("/", "_"), base=BASE), repository, tag)
    return real


@pytest.fixture
def site(tmp_path: Path, registry: RealRegistry) -> Path:
    new_repository(tmp_path)
    names = ("docker.io", "registry.example:5000", "hub.opensciencegrid.org")
    (tmp_path / "service.toml").write_text(
        "".join(f'[registries."{name}"]\naddress = "{registry.host}"\nplain-http = true\n' for name in names)
    )
    (tmp_path / "cern.yaml").write_text(CERN)
    (tmp_path / "osg.txt").write_text(OSG)
    return tmp_path


def sync(site: Path, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    return lazyfs(
        "sync", *arguments, site / "store", "--keys", site / "keys", "--config", site / "service.toml",
        "--status-dir", site / "status", check=check,
    )  # fmt: skip


def test_the_lists_of_the_field_become_the_trees_that_people_know(site: Path) -> None:
    done = sync(site, site / "cern.yaml", site / "osg.txt")
    assert "9 published" in done.stdout
    assert "output_format has no effect" in done.stderr
    store = open_store(str(site / "store"))
    tree = StoredTree(reader(store), read_revision(store).root)

    def leads_to(path: str) -> bytes:
        found = tree.find(path)
        assert found, path
        return found.entry.content

    assert leads_to("registry.hub.docker.com") == leads_to("index.docker.io") == b"docker.io"
    assert leads_to("docker.io/llorente/threejet-nnlo:0.2").startswith(b"../../.flat/")
    assert tree.find("registry.example:5000/atlas/athanalysis:21.3.1") is None
    assert b"../" + leads_to("library/centos:latest") == leads_to("docker.io/library/centos:latest")
    assert leads_to("htc/rocky:8").startswith(b"../.flat/")
    assert b"test.example.org" in tree.file("logDir/lastUpdate")
    again = json.loads(sync(site, site / "cern.yaml", site / "osg.txt", "--json").stdout)
    assert (again["unchanged"], again["events"], again["exit_code"]) == (9, [], 0)
    assert "all right" in lazyfs("check", site / "store").stdout
    events = [json.loads(line) for line in (site / "status/events.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["published"] * 9
    status = json.loads((site / "status/site/status.json").read_text())
    assert status["counts"]["published"] == 9
    assert "docker.io/library/centos:centos7" in (site / "status/site/index.html").read_text()


def test_the_public_part_of_the_status_lies_in_the_store_and_is_served(site: Path) -> None:
    with (site / "service.toml").open("a") as file:
        file.write("[service]\nsite-in-store = true\n")
    sync(site, site / "osg.txt")
    published = json.loads((site / "store/status/status.json").read_text())
    assert published["counts"]["published"] == 4
    assert "osg.txt" not in (site / "store/status/index.html").read_text()
    assert "osg.txt" in (site / "status/site/index.html").read_text()
    assert "all right" in lazyfs("check", site / "store").stdout
    with NginxOrigin(site / "store") as origin:
        for name, kind in (
            ("index.html", "text/html"),
            ("site.js", "text/javascript"),
            ("feed.atom", "atom"),
        ):
            with urllib.request.urlopen(f"{origin.url}/status/{name}", timeout=20) as answer:
                assert kind in answer.headers["Content-Type"]
                assert answer.read() == (site / "store/status" / name).read_bytes()


def test_exit_codes(site: Path) -> None:
    assert sync(site, site / "osg.txt").returncode == 0
    (site / "osg.txt").write_text(OSG + "none/such:1\n")
    assert sync(site, site / "osg.txt", check=False).returncode == 1
    (site / "other.txt").write_text("none/such:1\n")
    nothing = sync(site, site / "other.txt", check=False)
    assert nothing.returncode == 2
    assert "failed docker.io/none/such:1" in nothing.stdout
    assert sync(site, site / "missing.txt", check=False).returncode == 2
    unknown = sync(site, site / "osg.txt", "--max-age", "soon", check=False)
    assert unknown.returncode == 2
    assert "no length of time" in unknown.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = ", "not TOML"),
        ("[service]\nlayuot = 'osg'\n", "layuot"),
        ("[service]\nlayout = 'flat'\n", "layout 'flat' is none of cern, osg"),
        ("[service]\nimages-at-once = 0\n", "images-at-once = 0 is not from 1"),
        ("[service]\nplatforms = ['a/b/c/d']\n", "platform"),
        ('[registries."docker.io"]\n[registries."index.docker.io"]\n', "Docker Hub twice"),
        ("[registries.\"r.example\"]\npassword = 'x'\n", "password"),
    ],
)
def test_a_wrong_configuration_is_one_clear_line(site: Path, text: str, said: str) -> None:
    (site / "service.toml").write_text(text)
    done = sync(site, site / "osg.txt", check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert "service.toml" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_list_whose_name_is_not_utf8_is_a_list_like_any_other(site: Path) -> None:
    folder = site / "lists"
    folder.mkdir()
    listed = folder / os.fsdecode(b"caf\xe9.txt")
    listed.write_text("htc/x:1\nhub.opensciencegrid.org/htc/rocky:8\nopensciencegrid/no:such\n")
    shown = f"{folder}/caf\\xe9.txt"
    first = sync(site, folder, check=False)
    assert (first.returncode, "1 published" in first.stdout) == (1, True), first.stderr
    assert shown in (site / "status/site/lists.html").read_text()
    assert list(json.loads((site / "status/state.json").read_bytes())["lists"]) == [shown]
    found = lazyfs(
        "when", "hub.opensciencegrid.org/htc/rocky:8", site / "store", "--status-dir", site / "status"
    )
    assert f"{shown} line 2" in found.stdout
    assert f"{shown}: osg, 3 wishes" in lazyfs("sync", "--check", folder).stdout
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    assert lazyfs("sync", "--check", "--since", "HEAD", listed).returncode == 0
    listed.unlink()
    gone = sync(site, listed, check=False)
    assert f"{shown}: wishlist {shown}: No such file" in gone.stderr
    assert "its last good content stays in force" in gone.stderr
    (site / "osg.txt").write_text("centos\ndebian\n")
    assert "1 removed" in sync(site, site / "osg.txt", "--forget", listed).stdout


def test_two_runs_at_once_are_refused_unless_the_second_is_to_wait(site: Path) -> None:
    sync(site, site / "osg.txt")
    with (site / "status/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = sync(site, site / "osg.txt", check=False)
    assert done.returncode == 2
    assert "another lazyfs sync is at work" in done.stderr
    command = [
        *LAZYFS, "sync", str(site / "osg.txt"), str(site / "store"), "--keys", str(site / "keys"),
        "--config", str(site / "service.toml"), "--status-dir", str(site / "status"), "--wait", "10m",
    ]  # fmt: skip
    path = site / "status/.lock"
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            until(lambda: has_open(process.pid, path), 60)
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert "4 unchanged" in process.communicate(timeout=60)[0]


def test_an_interrupted_run_waits_for_no_registry(site: Path) -> None:
    with fake_registry() as registry:
        registry.limited, registry.retry_after = 1_000_000, "250"
        (site / "service.toml").write_text(
            f'[registries."slow.example"]\naddress = "{registry.host}"\nplain-http = true\n'
        )
        (site / "slow.yaml").write_text("input: ['slow.example/team/app:1', 'slow.example/team/app:*']\n")
        command = [
            *LAZYFS, "sync", str(site / "slow.yaml"), str(site / "store"), "--keys", str(site / "keys"),
            "--config", str(site / "service.toml"), "--status-dir", str(site / "status"),
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            end = time.monotonic() + 60
            while not registry.requests:
                assert process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 130
    assert "all right" in lazyfs("check", site / "store").stdout


def git(directory: Path, *arguments: str) -> None:
    identity = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org",
                "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org"}  # fmt: skip
    subprocess.run(
        ["git", "-C", str(directory), *arguments],
        check=True,
        capture_output=True,
        env={**os.environ, **identity},
    )


def test_a_list_that_is_meant_to_be_short_is_said_to_be(site: Path) -> None:
    sync(site, site / "osg.txt")
    (site / "osg.txt").write_text("centos:latest\n")
    doubted = sync(site, site / "osg.txt", check=False)
    assert doubted.returncode == 1
    assert f"give --accept-shorter {site / 'osg.txt'}" in doubted.stderr
    assert "0 removed" in doubted.stdout
    assert "3 removed" in sync(site, site / "osg.txt", "--accept-shorter", site / "osg.txt").stdout


def test_check_alone_needs_no_store_and_names_line_reason_and_mend(tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "good.yaml").write_text(CERN)
    (lists / "README.txt").write_text("what this is\n")
    assert lazyfs("sync", "--check", lists).returncode == 0
    bad = lists / "bad.txt"
    bad.write_text("a/b:1\na b\n")
    done = lazyfs("sync", "--check", lists, check=False)
    assert done.returncode == 1
    assert f"{bad}:2: 'a b' has spaces" in done.stdout
    github = lazyfs("sync", "--check", bad, "--annotate", "github", check=False).stdout
    assert github.startswith(f"::error file={bad},line=2::")
    (issue,) = json.loads(lazyfs("sync", "--check", bad, "--annotate", "gitlab", check=False).stdout)
    assert issue["location"] == {"path": str(bad), "lines": {"begin": 2}}


def test_check_since_a_revision_looks_at_changed_lines(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a/b:1\nan old mistake\na/c:1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    assert lazyfs("sync", "--check", path, check=False).returncode == 1
    assert lazyfs("sync", "--check", "--since", "HEAD", path).returncode == 0
    path.write_text("a/b:1\nan old mistake\na/c:1\na new one\n")
    done = lazyfs("sync", "--check", "--since", "HEAD", path, check=False)
    assert done.returncode == 1
    assert "a new one" in done.stdout
    assert "old mistake" not in done.stdout
    for wrong in ("--output=x", "none"):
        refused = lazyfs("sync", "--check", "--since", wrong, path, check=False)
        assert refused.returncode == 2
