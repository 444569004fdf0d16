"""`lazyfs repo` as an operator types it: its output, and one clear line for each mistake."""

import os
from pathlib import Path

import pytest

from lazyfs.cli.main import main
from lazyfs.core.digest import sha256


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> "Run":
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return Run(capsys)


class Run:
    """Runs commands in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str) -> str:
        """Runs a command that must succeed; returns its output."""
        code = main(["repo", *words])
        out, err = self._capsys.readouterr()
        assert (code, err) == (0, "")
        return out

    def fails(self, *words: str) -> str:
        """Runs a command that must fail; returns its error message, which must be one line."""
        code = main(["repo", *words])
        out, err = self._capsys.readouterr()
        assert code == 2
        assert out == ""
        assert err.startswith("lazyfs: ")
        assert err.count("\n") == 1
        return err


def test_a_repositorys_life(run: Run, tmp_path: Path) -> None:
    made = run("init", "store", "--name", "test.example.org")
    fingerprint = sha256((tmp_path / "store/metadata/1.root.json").read_bytes()).hex()
    assert f"fingerprint  {fingerprint}" in made
    keys = tmp_path / "config/lazyfs/keys/test.example.org"
    assert f"keys         {keys}" in made
    assert f"Run `lazyfs repo resign {tmp_path / 'store'}` every day from cron" in made
    assert run("resign", "store", "--expiry", "3").startswith("timestamp expires 2")
    for role in ("timestamp", "targets", "root"):
        assert "destroy it" in run("rotate", "store", role, "--count", "2", "--threshold", "2")
    shown = run("show", "store")
    assert "repository   test.example.org\nrevision     1 of " in shown
    assert f"fingerprint  {fingerprint}" in shown
    assert "root         version 4, expires" in shown
    assert "root keys       2 of " in shown
    assert len(list(keys.glob("*.pem"))) == 6
    assert len(list(keys.glob("*.pem.retired"))) == 3


def test_root_keys_in_a_safe(run: Run, tmp_path: Path) -> None:
    made = run(
        "init", "store", "--name", "x", "--keys", "online", "--root-keys", "safe",
        "--root-count", "3", "--root-threshold", "2",
    )  # fmt: skip
    assert f"lazyfs repo resign {tmp_path / 'store'} --keys {tmp_path / 'online'}` every day" in made
    assert {name.split("-")[0] for name in os.listdir("online")} == {"targets", "timestamp"}
    assert {name.split("-")[0] for name in os.listdir("safe")} == {"root"}
    assert "0 of the 2 root keys" in run.fails("rotate", "store", "timestamp", "--keys", "online")
    run("rotate", "store", "timestamp", "--keys", "online", "--root-keys", "safe")
    run("rotate", "store", "root", "--keys", "online", "--root-keys", "safe", "--new-keys", "safe2")
    assert [name.rpartition(".")[2] for name in os.listdir("safe")] == ["retired"] * 3
    run("rotate", "store", "targets", "--keys", "online", "--root-keys", "safe2")


def test_a_failed_rotation_leaves_no_keys_behind(run: Run) -> None:
    run("init", "store", "--name", "x", "--keys", "online", "--root-keys", "safe")
    before = sorted(os.listdir("online"))
    run.fails("rotate", "store", "timestamp", "--keys", "online")
    assert sorted(os.listdir("online")) == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["init", "store", "--name", "test.example.org"], "holds a repository already"),
        (["init", "new", "--name", "test.example.org"], "holds keys already"),
        (
            ["show", "gs://bucket/x"],
            "publishers write to a directory, which a web server serves, or s3://BUCKET/PREFIX, not to gs://",
        ),
        (["init", "new", "--name", "../x"], "repository name"),
        (["init", "new", "--name", "y", "--keys", "new/keys"], "lies under the store"),
        (["init", "new", "--name", "y", "--root-keys", "new/keys"], "lies under the store"),
        (["init", "new", "--name", "y", "--root-threshold", "2"], "root threshold 2"),
        (["init", "http://host/x", "--name", "y"], "publishers write to a directory"),
        (["resign", "nowhere"], "nowhere is not a directory"),
        (["resign", "."], "no repository in it"),
        (["resign", "store", "--keys", "nowhere"], "keys directory nowhere: No such file"),
        (["resign", "store", "--keys", "store"], "holds no *.pem"),
        (["rotate", "store", "root", "--threshold", "2"], "raise --count"),
        (["rotate", "store", "root", "--new-keys", "store/keys"], "lies under the store"),
        (["show", "nowhere"], "nowhere is not a directory"),
    ],
)
def test_mistakes(run: Run, tmp_path: Path, words: list[str], says: str) -> None:
    run("init", "store", "--name", "test.example.org")
    before = sorted(tmp_path.rglob("*"))
    assert says in run.fails(*words)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_key_file_is_named(run: Run, tmp_path: Path) -> None:
    run("init", "store", "--name", "x", "--keys", "keys")
    victim = next((tmp_path / "keys").glob("timestamp-*.pem"))
    victim.write_bytes(b"nonsense")
    assert victim.name in run.fails("resign", "store", "--keys", "keys")


def test_an_init_that_was_killed_says_what_to_do(run: Run, tmp_path: Path) -> None:
    run("init", "store", "--name", "x", "--keys", "keys")
    (tmp_path / "store/metadata/timestamp.json").unlink()
    assert "unfinished `repo init`" in run.fails("show", "store")
