"""No command prints characters that control a terminal, even if images, stores and registries have hostile
names."""

import contextlib
import json
import os
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazyfs.core.printable import escaped, escaped_json
from tests.support.cli import lazyfs, mounted, new_repository, serving
from tests.support.fake_registry import fake_registry
from tests.support.oci_images import Built, entry, layer

EVIL = "e\x1b]0;PWN\x07\x1b[2J\r\b\x7f\x85\x9b31m\u202e\u2028\nlazyfs: forged"
"""A name that sets the title and clears the screen, with carriage return, backspace, DEL, C1 controls, a
change of writing direction, and line breaks."""


def bad_characters(text: str) -> set[str]:
    """Returns the characters that must not reach a terminal. A line feed counts only if the forged line
    follows it."""
    forged = {"forged line"} if any(line.startswith("lazyfs: forged") for line in text.split("\n")) else set()
    return {character for character in text if not character.isprintable() and character != "\n"} | forged


class Spoken:
    """Runs commands, and asserts that they print no bad character."""

    def __init__(self) -> None:
        self.shown = 0
        """Number of outputs that contained a hostile name."""

    def __call__(self, *words: str | Path) -> str:
        done = lazyfs(*words, check=False)
        said = done.stdout + done.stderr
        assert bad_characters(said) == set(), f"lazyfs {' '.join(map(str, words))}: {said!a}"
        assert "Traceback" not in said
        self.shown += "PWN" in said
        return said


@pytest.fixture
def spoken() -> Spoken:
    return Spoken()


CONFIG = {
    "Env": ["PATH=/bin", f"A={EVIL}"],
    "Cmd": [f"/bin/{EVIL}"],
    "Labels": {f"l{EVIL}": EVIL},
    "WorkingDir": f"/{EVIL}",
    "User": EVIL,
}


def build(number: int) -> Built:
    """Builds an image in which every name is hostile. The image differs for each number."""
    return Built(
        [
            layer(
                entry("bin", tarfile.DIRTYPE),
                entry("bin/true", data=b"#!/bin/sh\n", mode=0o755),
                entry(f"file {EVIL}", data=b"%d" % number),
                entry(f"link {EVIL}", tarfile.SYMTYPE, linkname=f"/{EVIL}"),
                entry(f"pipe {EVIL}", tarfile.FIFOTYPE),
                entry(f"new{number}{EVIL}", data=b"x"),
            )
        ],
        config=CONFIG,
    )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    store, keys = new_repository(tmp_path)
    for number in (1, 2):
        layout = build(number).write_layout(tmp_path / f"layout{number}")
        place = f"evil.example/x:{number}"
        lazyfs("publish", f"oci:{layout}", store, "--as", place, "--keys", keys)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / f"name {EVIL}".encode()[:200].decode(errors="ignore")).touch()
    lazyfs("publish", f"dir:{tree}", store, "--as", "tools", "--keys", keys)
    return store


def test_commands_of_publishers(store: Path, tmp_path: Path, spoken: Spoken) -> None:
    keys, layout = tmp_path / "keys", tmp_path / "layout1"
    broken = Built([layer(entry("f"), entry(f"h{EVIL}", tarfile.LNKTYPE, linkname=f"no{EVIL}"))])
    broken_layout = broken.write_layout(tmp_path / "broken")
    spoken("publish", f"oci:{broken_layout}", store, "--as", "evil.example/b:1", "--keys", keys)
    spoken("publish", f"oci:{layout}:{EVIL}", store, "--keys", keys)
    spoken("publish", f"oci:{tmp_path}/{EVIL}", store, "--as", f"evil.example/{EVIL}:1", "--keys", keys)
    spoken("inspect", f"oci:{layout}")
    assert "PWN" in spoken("inspect", "evil.example/x:1", store)
    fields = json.loads(spoken("inspect", "evil.example/x:1", store, "--json"))
    assert fields["user"] == EVIL
    spoken("inspect", EVIL, store)
    assert "PWN" in spoken("diff", "evil.example/x:1", "evil.example/x:2", store)
    changes = [json.loads(line) for line in spoken("diff", "@3", "@4", store, "--json").splitlines()]
    assert any(EVIL in change["path"] for change in changes)
    spoken("check", store, "--against", f"oci:{layout}", "--as", "evil.example/x:1")
    spoken("profile", "make", EVIL, tmp_path / f"trace{EVIL}", store, "--keys", keys)
    spoken("repo", "show", store)
    spoken("repo", "init", tmp_path / EVIL, "--name", EVIL, "--keys", tmp_path / "other-keys")
    for path in sorted((store / "data").rglob("*"))[::2]:
        if stat.S_ISREG(path.stat().st_mode):
            path.unlink()
    spoken("check", store)
    assert spoken.shown >= 8


def test_tags_of_a_registry(spoken: Spoken) -> None:
    with fake_registry() as registry:
        registry.tag_list = json.dumps({"name": "team/app", "tags": [EVIL, "v1"]}).encode()
        source = f"docker://{registry.host}/team/app"
        spoken("inspect", source, "--tags", "--plain-http")
        spoken("inspect", source, "--tags", "--plain-http", "--json")
        registry.nobody["manifests"] = 403
        registry.reason = json.dumps({"errors": [{"code": "DENIED", "message": EVIL}]}).encode()
        spoken("inspect", f"{source}:v1", "--plain-http")
    assert spoken.shown >= 1


@pytest.mark.root
def test_commands_of_a_node(
    store: Path, tmp_path: Path, spoken: Spoken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path / "run"))
    cache, log = tmp_path / "cache", tmp_path / "log"
    options = ("--cache", cache, "--log", log, "--trust", store / "metadata/1.root.json", "--patience", "2")
    with (
        serving(store) as url,
        mounted(url, tmp_path / f"mnt {EVIL}".replace("/", ""), *options) as mnt,
    ):
        image = mnt / "evil.example/x:1"
        names = [name for name in os.listdir(image) if "PWN" in name]
        assert len(names) == 4
        for name in names:
            with contextlib.suppress(OSError):
                os.stat(image / name)
        for words in (
            ("status", mnt), ("top", mnt, "--count", "1", "--interval", "0.1"), ("refresh", mnt),
            ("run", image), ("run", image, "--explain"), ("run", image, "--explain", "--json"),
            ("run", "evil.example/x:1", "--", f"/bin/{EVIL}"), ("run", f"evil.example/{EVIL}"),
            ("run", image, "-B", f"/nowhere{EVIL}:/x", "--", "/bin/true"),
            ("cache", "--cache", cache, "pin", image), ("cache", "--cache", cache, "pin", image / names[0]),
            ("cache", "--cache", cache, "status"), ("cache", "--cache", cache, "list"),
            ("cache", "--cache", cache, "list", "--by", "image"), ("cache", "--cache", cache, "unpin", EVIL),
            ("status", mnt / EVIL), ("umount", mnt / EVIL), ("mount", f"/no{EVIL}", mnt),
            (f"no-such-command{EVIL}",), ("run", f"--no-such-option{EVIL}"),
        ):  # fmt: skip
            spoken(*words)
    assert bad_characters(log.read_text()) == set()
    assert spoken.shown >= 12


@given(st.text())
def test_escaped_text_acts_on_no_terminal(text: str) -> None:
    shown = escaped(text)
    assert shown.isprintable()
    assert escaped(shown) == shown
    if text.isprintable():
        assert shown == text


@given(st.text())
def test_escaped_json_means_the_same(text: str) -> None:
    shown = escaped_json(json.dumps({text: [text]}, ensure_ascii=False))
    assert shown.isprintable()
    assert json.loads(shown) == {text: [text]}


def test_names_in_every_script_are_left_as_they_are() -> None:
    assert escaped("Straße 数据 данные ✓ e\u0301") == "Straße 数据 данные ✓ e\u0301"
    assert escaped(os.fsdecode(b"\xff\x1b")) == r"\xff\x1b"
