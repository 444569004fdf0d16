"""`lazyfs log`, `rm`, `rollback`, `gc` and `repo keep` as an operator runs them, on a directory and on a
URL."""

import json
import os
from pathlib import Path

import pytest

from tests.support.cli import lazyfs, mounted, new_repository, serving, status
from tests.support.oci_images import Built, entry, layer
from tests.support.older_objects import make_older

BASE = layer(entry("base", data=b"base"))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes a repository in which revision 3 has moved r.example/x:1, and revision 4 has added
    r.example/y:1."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home-cache"))
    store, keys = new_repository(tmp_path)
    monkeypatch.setenv("KEYS", str(keys))
    for number, place in enumerate(("r.example/x:1", "r.example/x:1", "r.example/y:1")):
        image = Built([BASE, layer(entry("own", data=b"%d" % number))])
        layout = image.write_layout(tmp_path / f"layout{number}")
        lazyfs("publish", f"oci:{layout}", store, "--as", place, "--keys", keys)
    return store


def run(*arguments: str | Path, check: bool = True) -> str:
    """Runs a command with the repository's keys; returns its output."""
    done = lazyfs(*arguments, "--keys", os.environ["KEYS"], check=check)
    return done.stdout + done.stderr


def test_a_day_of_a_repository(store: Path, tmp_path: Path) -> None:
    log = lazyfs("log", store).stdout.splitlines()
    assert [line.split()[:2] for line in log if line.startswith("revision")] == [
        ["revision", str(number)] for number in (4, 3, 2, 1)
    ]
    assert [line.split()[:2] for line in log if line.startswith("  ")] == [
        ["+", "r.example/y:1"], ["~", "r.example/x:1"], ["+", "r.example/x:1"],
    ]  # fmt: skip
    one = [json.loads(line) for line in lazyfs("log", "x:1", store, "--json").stdout.splitlines()]
    assert [(item["revision"], item["change"]) for item in one] == [(3, "moved"), (2, "came")]
    assert one[0]["old"] == one[1]["new"] != one[0]["new"]

    assert "kept as first" in run("repo", "keep", "first", store, "--revision", "2")
    assert "revision 2 as first" in lazyfs("repo", "show", store).stdout
    assert "(first)" in lazyfs("log", store).stdout
    dry = run("rm", "x:1", "y:1", store, "--dry-run")
    assert "- r.example/x:1" in dry
    assert "would go" in dry
    gone = json.loads(run("rm", "x:1", "y:1", store, "--untagged", "--json"))
    assert gone["revision"] == 5
    assert sorted(gone["images"]) == ["r.example/x:1", "r.example/y:1"]
    assert "similar" not in run("rm", "x:1", store, check=False)
    assert "- r.example/x:1" in lazyfs("log", store, "-n", "1").stdout

    make_older(store)
    assert "would be deleted" in run("gc", store, "--dry-run")
    report = json.loads(run("gc", store, "--json"))
    # Only one object is garbage: the head of the history that was replaced when the name was given.
    assert (report["deleted"], report["kept"]) == (1, [5, 4, 3, 2, 1])
    assert "+ r.example/x:1" in run("rollback", store, "--to", "2", "--dry-run")
    assert "revision 6: shows revision 2 again" in run("rollback", store, "--to", "first")
    assert "revision 6: shows what revision 2 shows" in run("rollback", store, "--to", "2")
    assert "rolled back to 2" in lazyfs("log", store).stdout
    assert "all right" in lazyfs("check", store).stdout
    run("repo", "release", "first", store)
    assert "(first)" not in lazyfs("log", store).stdout
    assert "no longer kept" not in lazyfs("log", store).stdout


def test_the_log_says_what_is_no_longer_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", str(tmp_path / "keys"))
    store, source = tmp_path / "store", tmp_path / "tree"
    run("repo", "init", store, "--name", "test.example.org", "--keep-days", "0")
    source.mkdir()
    for number in range(3):
        (source / "f").write_text(str(number))
        run("publish", f"dir:{source}", store, "--as", "tree")
        if number == 0:
            run("repo", "keep", "first", store)
    lines = lazyfs("log", store, "--json").stdout.splitlines()
    assert [json.loads(line)["kept"] for line in lines] == [True, False, True, False]
    assert lazyfs("log", store).stdout.count("no longer kept") == 2
    make_older(store)
    run("gc", store)
    assert len(lazyfs("log", store).stdout.splitlines()) == 7
    assert "revision 2 again" in run("rollback", store, "--to", "first")
    refused = run("rollback", store, "--to", "3", check=False)
    assert "revision 3 is not whole in the store any more" in refused


def test_a_collection_stops_at_a_missing_object_and_says_what_to_do(store: Path, tmp_path: Path) -> None:
    run("rm", "x:1", store)
    make_older(store)
    root = json.loads(lazyfs("log", store, "-n", "1", "--json").stdout)["root"]
    catalog, away = store / "data" / root[:2] / root[2:], tmp_path / "away"
    catalog.rename(away)
    before = sorted((store / "data").rglob("*"))
    for arguments in ([], ["--dry-run"]):
        done = lazyfs("gc", store, "--keys", os.environ["KEYS"], *arguments, check=False)
        assert done.returncode == 1
        assert f"/: catalog {root} is not there" in done.stderr
        assert "nothing was deleted: 1 objects are missing" in done.stdout
        assert "--despite-missing" in done.stdout
    stopped = json.loads(run("gc", store, "--json", check=False))
    assert (stopped["stopped"], stopped["missing"], stopped["deleted"]) == (True, 1, 0)
    assert sorted((store / "data").rglob("*")) == before
    assert "would be deleted" in run("gc", store, "--dry-run", "--despite-missing", check=False)
    away.rename(catalog)
    assert json.loads(run("gc", store, "--json"))["stopped"] is False
    assert "all right" in lazyfs("check", store).stdout


def test_the_log_of_a_url_is_what_a_trusted_signature_leads_to(store: Path, tmp_path: Path) -> None:
    expected = lazyfs("log", store).stdout
    with serving(store) as url:
        refused = lazyfs("log", url, check=False)
        assert refused.returncode == 2
        assert "--trust" in refused.stderr
        trust = store / "metadata/1.root.json"
        assert lazyfs("log", url, "--trust", trust).stdout == expected
        assert lazyfs("log", url).stdout == expected  # it was trusted before
        tag = lazyfs("log", "r.example/x:1", url, "--json").stdout
        assert [json.loads(line)["revision"] for line in tag.splitlines()] == [3, 2]
        wrong = lazyfs("log", url, "--trust", "0" * 64, "--cache", tmp_path / "other", check=False)
        assert wrong.returncode == 1
        assert "fingerprint" in wrong.stderr


@pytest.mark.root
def test_a_mount_of_an_older_revision_stays_with_it(store: Path, tmp_path: Path) -> None:
    run("repo", "keep", "first", store, "--revision", "2")
    options: list[str | Path] = ["--trust", store / "metadata/1.root.json", "--cache", tmp_path / "cache"]
    own = "r.example/x:1/own"
    with serving(store) as url:
        for wanted in ("2", "first"):
            with mounted(url, tmp_path / "mnt", *options, "--revision", wanted) as mount:
                assert (mount / own).read_bytes() == b"0"
                assert not (mount / "r.example/y:1").exists()
                [shown] = status(mount)["repositories"].values()
                assert shown["revision"] == 2
                run("rm", "y:1", store, check=False)
                lazyfs("refresh", mount)
                assert (mount / own).read_bytes() == b"0"
                [shown] = status(mount)["repositories"].values()
                assert (shown["revision"], shown["warning"]) == (2, "")
        with mounted(url, tmp_path / "mnt", *options) as mount:
            assert (mount / own).read_bytes() == b"1"
        for wanted, message in (
            ("99", "no revision 99, only 1 to"),
            ("2001-01-01", "no revision on 2001-01-01 yet"),
            ("jan", "kept ones: first"),
            ("a/b", "give a revision's number"),
        ):
            refused = lazyfs("mount", url, tmp_path / "mnt", *options, "--revision", wanted, check=False)
            assert refused.returncode == 2, refused
            assert message in refused.stderr
    with mounted(url, tmp_path / "mnt", *options, "--revision", "2") as mount:  # with every server dead
        assert (mount / own).read_bytes() == b"0"


def test_what_cannot_be_removed_is_named(store: Path) -> None:
    for image, message in (
        ("r.example/none:1", "r.example/none:1 is not in this revision"),
        ("none.example/app:1", "`lazyfs log STORE` lists what was published"),
        (".flat", "is a part of images"),
        ("r.example", "is a folder of images"),
        ("", "is the whole tree"),
    ):
        done = lazyfs("rm", image, store, "--dry-run", check=False)
        assert done.returncode == 2, done
        assert message in done.stderr, done.stderr
    assert "no image given" in lazyfs("rm", store, check=False).stderr


def test_log_of_what_never_was_is_an_error(store: Path) -> None:
    done = lazyfs("log", "r.example/none:1", store, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no revision of the history has an image called r.example/none:1" in done.stderr
