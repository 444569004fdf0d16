"""A mount over files that its own daemon needs is refused at the start, with the name of the file."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.daemon.own_files import check_own_files
from lazyfs.daemon.setting_origins import Origin
from lazyfs.daemon.settings import RepositorySource, Settings
from lazyfs.system import mountpoint as points
from tests.support.cli import lazyfs, status
from tests.support.processes import frozen
from tests.support.repository import Published

TOP = "/srv/images"


def refused(origins: dict[str, Origin] | None = None, **settings: Any) -> str:
    given: dict[str, Any] = {"mountpoint": TOP, "source": "http://o/r", "cache": "/c"}
    made = Settings(**given | settings)
    with pytest.raises(UsageError) as caught:
        check_own_files(made, origins or {}, keeps_directory=False)
    return str(caught.value)


@pytest.mark.parametrize(
    ("field", "named"),
    [
        ("cache", "the cache"), ("log", "the log"), ("trace", "the trace"), ("lower", "the store"),
        ("ca", "the certificate"), ("client_cert", "the certificate"), ("client_key", "the certificate"),
        ("source", "the store"),
    ],
)  # fmt: skip
def test_what_settings_name(field: str, named: str) -> None:
    for path in (f"{TOP}/x", f"{TOP}/a/../b/x"):
        given: dict[str, Any] = {field: path}
        assert f"{named} {path}" in refused(**given)
    given = {"mountpoint": TOP, "source": "http://o/r", "cache": "/c", field: f"{TOP}2/x"}
    check_own_files(Settings(**given), {}, keeps_directory=False)


def test_what_else_a_daemon_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lazyfs

    code = os.path.dirname(os.path.dirname(os.path.realpath(lazyfs.__file__)))
    assert "the program" in refused(mountpoint=code)
    assert "the interpreter" in refused(mountpoint=os.path.dirname(os.path.realpath(sys.executable)))
    monkeypatch.setattr(sys, "path", [*sys.path, f"{TOP}/lib"])
    assert f"the directory of libraries {TOP}/lib" in refused()
    monkeypatch.undo()
    monkeypatch.setenv("SSL_CERT_FILE", f"{TOP}/ca.pem")
    assert "the certificates" in refused()
    monkeypatch.undo()
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", f"{TOP}/run")
    assert "the runtime directory" in refused()
    monkeypatch.undo()
    assert "settings" in refused({"proxy": Origin("file", f"{TOP}/site.toml:3")})
    assert "settings" in refused({"proxy": Origin("command line", "", f"{TOP}/proxy")})
    one = RepositorySource(url="http://o/r", client_cert=f"{TOP}/c.pem")
    assert "c.pem" in refused(source="", repositories={"r": one})
    monkeypatch.chdir(tmp_path)
    made = Settings(mountpoint=str(tmp_path), source="http://o/r", cache="/c")
    check_own_files(made, {}, keeps_directory=False)
    with pytest.raises(UsageError, match="the working directory"):
        check_own_files(made, {}, keeps_directory=True)


def test_a_link_that_leads_below(tmp_path: Path) -> None:
    (tmp_path / "mnt/inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "mnt/inner")
    said = refused(mountpoint=str(tmp_path / "mnt"), cache=str(tmp_path / "link/cache"))
    assert f"which is {tmp_path}/mnt/inner/cache" in said


@pytest.mark.root
def test_the_command_refuses_and_mounts_nothing(published: Published, tmp_path: Path) -> None:
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    done = lazyfs("mount", published.store, mnt, "--cache", mnt / "cache", check=False)
    assert (done.returncode, "would wait for itself" in done.stderr) == (2, True), done.stderr
    done = lazyfs(
        "mount", "--foreground", published.store, ".", "--cache", tmp_path / "c", cwd=mnt, check=False
    )
    assert (done.returncode, "the working directory" in done.stderr) == (2, True), done.stderr
    assert points.find(str(mnt)) is None


@pytest.mark.root
def test_below_a_mount_that_hangs_nothing_is_waited_for(published: Published, tmp_path: Path) -> None:
    mnt, link = tmp_path / "mnt", tmp_path / "link"
    mnt.mkdir()
    lazyfs("mount", published.store, mnt, "--cache", tmp_path / "cache")
    link.symlink_to(mnt / "lib/a:1")
    with frozen(status(mnt)["pid"]):
        done = lazyfs("mount", published.store, mnt, "--cache", link / "cache", check=False, timeout=20)
    assert done.returncode == 2, done.stderr
