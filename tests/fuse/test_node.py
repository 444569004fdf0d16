"""The tools of a worker node: mount -t lazyfs, fstab options, the autofs map, and systemd notification."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lazyfs.cli.mount_helper import arguments
from lazyfs.core.errors import UsageError
from lazyfs.system import mountpoint as points
from tests.support.cli import LAZYFS, lazyfs
from tests.support.images import image, live
from tests.support.repository import Published

NODE = Path(__file__).parents[2] / "tools/node"


def test_what_mount_passes_becomes_our_options() -> None:
    given = [
        "http://o/r",
        "/mnt",
        "-s",
        "-v",
        "-o",
        "rw,_netdev,x-systemd.automount,proxy=http://p:3128;DIRECT",
    ]
    given += ["-o", "cache_limit=4G,suid,comment=x"]
    assert arguments(given) == [
        "mount", "http://o/r", "/mnt", "--proxy", "http://p:3128;DIRECT", "--cache-limit", "4G", "--suid",
    ]  # fmt: skip
    assert arguments(["lazyfs", "/mnt", "-o", "config=/c"]) == ["mount", "/mnt", "--config", "/c"]


def test_a_file_called_as_the_placeholder_is_not_taken_for_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the working directory has a file with the placeholder's name, mount(8) replaces the placeholder by
    the absolute path of that file."""
    monkeypatch.chdir(tmp_path)
    for name in ("lazyfs", "none"):
        (tmp_path / name).mkdir()
        given = [str(tmp_path / name), "/mnt", "-o"]
        assert arguments([*given, "config=/c"]) == ["mount", "/mnt", "--config", "/c"]
        assert arguments([*given, "cache=/c"]) == ["mount", str(tmp_path / name), "/mnt", "--cache", "/c"]
        assert arguments(["/srv/store", name, "-o", "config=/c"])[1:3] == ["/srv/store", name]


@pytest.mark.parametrize("given", [["only"], ["a", "b", "c"], ["a", "b", "-o", "what=1"], ["a", "b", "-x"]])
def test_what_it_does_not_know_is_refused(given: list[str]) -> None:
    with pytest.raises(UsageError, match=r"mount\.lazyfs"):
        arguments(given)


def test_every_option_of_the_helper_is_one_of_the_command() -> None:
    from lazyfs.cli.mount import command
    from lazyfs.cli.mount_helper import FLAGS, VALUES

    known = {name.removeprefix("--") for parameter in command.params for name in parameter.opts}
    assert set(FLAGS) | set(VALUES) <= known


def test_the_autofs_map_answers_for_configured_repositories(tmp_path: Path) -> None:
    (tmp_path / "one.example.toml").touch()

    def ask(key: str) -> "subprocess.CompletedProcess[str]":
        environment = os.environ | {"LAZYFS_CONFIGS": str(tmp_path)}
        return subprocess.run(
            [NODE / "auto.lazyfs", key], env=environment, capture_output=True, text=True, check=False
        )

    found = ask("one.example")
    assert found.stdout == f"-fstype=lazyfs,config={tmp_path}/one.example.toml :lazyfs\n"
    for key in ("two.example", "../one.example", ".hidden", ""):
        assert (ask(key).returncode, ask(key).stdout) == (1, "")


def test_the_installer_names_the_packages_that_are_missing(tmp_path: Path) -> None:
    """The machine has Python and the basic tools only: no compiler, no pkg-config, no fuse3."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "env", "dirname", "sed", "tr"):
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    python = tools / "python3"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)

    def missing(release: str) -> "subprocess.CompletedProcess[str]":
        (tmp_path / "os-release").write_text(release)
        environment = {"PATH": str(tools), "OS_RELEASE": str(tmp_path / "os-release")}
        command = [NODE.parent / "install", tmp_path / "venv"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    for release, line in (
        (
            "ID=debian\n",
            "apt-get install --no-install-recommends gcc libc6-dev pkg-config libfuse3-dev fuse3",
        ),
        ("ID=ubuntu\nID_LIKE=debian\n", "apt-get install --no-install-recommends gcc "),
        (
            'ID="almalinux"\nID_LIKE="rhel fedora"\n',
            "dnf install --enablerepo=crb gcc pkgconf-pkg-config fuse3",
        ),
        ("ID=other\n", "on Debian:  gcc libc6-dev pkg-config libfuse3-dev fuse3"),
    ):
        done = missing(release)
        assert done.returncode == 1, done.stderr
        assert line in done.stderr
        assert "missing: libfuse3's headers" in done.stderr
        assert not (tmp_path / "venv").exists()
    python.unlink()
    assert "python3-venv" in missing("ID=debian\n").stderr


def test_install_puts_things_where_the_system_looks(tmp_path: Path) -> None:
    venv = Path(sys.executable).parent.parent
    environment = os.environ | {"DESTDIR": str(tmp_path)}
    for _ in range(2):
        subprocess.run([NODE / "install", venv], env=environment, check=True, capture_output=True)
    assert (tmp_path / "sbin/mount.lazyfs").is_symlink()
    assert (tmp_path / "usr/local/bin/lazyfs").resolve() == (venv / "bin/lazyfs").resolve()
    assert os.access(tmp_path / "etc/auto.lazyfs", os.X_OK)
    unit = (tmp_path / "etc/systemd/system/lazyfs@.service").read_text()
    assert "Type=notify" in unit
    assert "mount --foreground --config /etc/lazyfs/%i.toml" in unit


@pytest.mark.root
def test_mount_lazyfs_and_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path / "run"))
    published = Published(tmp_path)
    published.commit(live(published.objects, {"img": image(published.objects, {"f": b"1"})}))
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    helper = [sys.executable, "-m", "lazyfs.cli.mount_helper"]
    subprocess.run([*helper, published.store, mnt, "-o", f"rw,cache={tmp_path}/cache"], check=True)
    assert (mnt / "img/f").read_bytes() == b"1"
    lazyfs("umount", mnt)

    config = tmp_path / "unit.toml"
    config.write_text(f'mountpoint = "{mnt}"\nsource = "{published.store}"\ncache = "{tmp_path}/cache"\n')
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(60)
        environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        command = [*LAZYFS, "mount", "--foreground", "--config", str(config)]
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
            while told.recv(4096) != b"READY=1":  # before it: descriptors for the unit's store
                pass
            assert (mnt / "img/f").read_bytes() == b"1"
            lazyfs("umount", "--config", config)
            assert process.wait(timeout=30) == 0
    assert points.find(str(mnt)) is None
