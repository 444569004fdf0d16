"""The contents of the packages, and their installation, upgrade and removal."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from lazyfs.cli.main import COMMANDS
from lazyfs.daemon.mount_options import MOUNT_OPTIONS
from lazyfs.daemon.settings_input import check, parse
from tests.support.cli import lazyfs

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("generated")
    subprocess.run([sys.executable, ROOT / "tools/packaging/generate", directory], check=True)
    return directory


def test_every_command_has_a_man_page(generated: Path) -> None:
    pages = {page.stem: page.read_text() for page in (generated / "man1").iterdir()}
    assert {f"lazyfs-{name}" for name in COMMANDS} | {
        "lazyfs",
        "lazyfs-repo-init",
        "lazyfs-cache-pin",
    } <= set(pages)
    for option in MOUNT_OPTIONS:
        assert f"\\-\\-{option.name.replace('-', chr(92) + '-')}" in pages["lazyfs-mount"]
    for name, page in pages.items():
        assert page.startswith(f'.TH "{name.upper()}" "1"')
        requests = {line.split()[0] for line in page.splitlines() if line.startswith((".", "'"))}
        assert requests <= {".TH", ".SH", ".B", ".BR", ".PP", ".TP", ".nf", ".fi"}, name


def test_the_example_has_every_setting_and_sets_none(generated: Path) -> None:
    text = (generated / "NAME.toml.example").read_text()
    assert parse(text.encode(), "example") == {}
    for option in MOUNT_OPTIONS:
        assert f"\n# {option.field} = " in text
    lines = [
        line.removeprefix("# ") for line in text.splitlines() if line.startswith(("# mountpoint", "# source"))
    ]
    sizes = (
        "cache_limit",
        "cache_keep_free",
        "memory_limit",
        "patience",
        "refresh",
        "fuse",
        "http",
        "on_outage",
    )
    lines += [
        line.removeprefix("# ")
        for line in text.splitlines()
        if line.startswith(tuple(f"# {one} = " for one in sizes))
    ]
    assert len(lines) == 2 + len(sizes)
    made = check(parse("\n".join(lines).encode(), "example"), "example")
    assert (made.cache_limit, made.patience, made.memory_limit) == ("4G", 30.0, "300M")


@pytest.mark.parametrize(("shell", "name"), [("bash", "lazyfs"), ("zsh", "_lazyfs"), ("fish", "lazyfs.fish")])
def test_completion_asks_the_command(generated: Path, shell: str, name: str) -> None:
    assert f"_LAZYFS_COMPLETE={shell}_complete" in (generated / "completion" / name).read_text()
    asked = {"_LAZYFS_COMPLETE": "bash_complete", "COMP_WORDS": "lazyfs umo", "COMP_CWORD": "1"}
    assert lazyfs(env=os.environ | asked).stdout == "plain,umount\n"


@pytest.mark.root
@pytest.mark.long
@pytest.mark.timeout(3000)
def test_packages_are_built_and_work(tmp_path: Path) -> None:
    """Tries the Debian package on a new Debian, and the archive at two places, one of them read-only."""
    built = tmp_path / "built"
    subprocess.run([ROOT / "tools/package", "--output", built], check=True)
    (package,), (archive,) = built.glob("*.deb"), built.glob("*.tar.gz")
    assert list(built.glob("*.rpm"))
    subprocess.run([ROOT / "tools/fresh-machine", f"package:{package}"], check=True)
    with tarfile.open(archive) as file:
        file.extractall(tmp_path / "a prefix", filter="tar")
    (top,) = (tmp_path / "a prefix").iterdir()
    other = tmp_path / "other"
    other.mkdir()
    subprocess.run(["mount", "--bind", top, other], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", other], check=True)
        for command in (top / "bin/lazyfs", other / "bin/lazyfs"):
            assert (
                b"version" in subprocess.run([command, "--version"], check=True, capture_output=True).stdout
            )
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree/f").write_text("read")
        (tmp_path / "mnt").mkdir()
        store, keys = tmp_path / "store", tmp_path / "keys"
        commands: list[list[str | Path]] = [
            ["repo", "init", store, "--name", "test.example.org", "--keys", keys],
            ["publish", f"dir:{tmp_path}/tree", store, "--keys", keys, "--as", "t"],
            ["mount", store, tmp_path / "mnt", "--cache", tmp_path / "cache"],
        ]
        for words in commands:
            subprocess.run([other / "bin/lazyfs", *words], check=True)
        assert (tmp_path / "mnt/t/f").read_text() == "read"
        subprocess.run([other / "bin/lazyfs", "umount", tmp_path / "mnt"], check=True)
    finally:
        subprocess.run(["umount", "--lazy", other], check=True)
