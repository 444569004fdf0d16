"""Runtime and cache directories that a user's mounts share, in any session, namespace or home."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.daemon import control_socket, runtime_directory
from lazyfs.daemon.cache_directory import default_cache
from lazyfs.system.mount_table import Mount
from lazyfs.system.user_namespace import is_root_of_node, outer_user

pytestmark = pytest.mark.root


def test_a_users_sockets_are_found_whatever_session_they_were_made_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("LAZYFS_RUNTIME_DIR")
    mount = Mount("0:57", "/mnt", "fuse.lazyfs", "x", "ro")
    found = set()
    os.seteuid(64123)
    try:
        for session in (None, str(tmp_path), "/run/user/gone"):
            if session:
                monkeypatch.setenv("XDG_RUNTIME_DIR", session)
            else:
                monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
            assert runtime_directory.directory() == "/tmp/lazyfs-64123"
            found.add(next(runtime_directory.socket_paths(mount)))
        assert found == {"/tmp/lazyfs-64123/0-57.sock"}
    finally:
        os.seteuid(0)
        os.rmdir("/tmp/lazyfs-64123")


def test_a_name_in_tmp_that_somebody_took_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, open_path: Path
) -> None:
    monkeypatch.delenv("LAZYFS_RUNTIME_DIR")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    taken = Path("/tmp/lazyfs-64124")
    taken.mkdir(mode=0o777)
    taken.chmod(0o777)
    session = open_path / "session"
    session.mkdir()
    os.chown(session, 64124, 64124)
    os.seteuid(64124)
    try:
        with pytest.raises(UsageError, match=r"others .* may write to .*set LAZYFS_RUNTIME_DIR"):
            runtime_directory.directory()
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(session))
        assert runtime_directory.directory() == str(session / "lazyfs")
    finally:
        os.seteuid(0)
        taken.rmdir()


def test_the_root_of_a_user_namespace_is_the_user_that_made_it() -> None:
    code = (
        "import json\nfrom lazyfs.daemon import cache_directory, runtime_directory\n"
        "print(json.dumps([cache_directory.default_cache(), runtime_directory.directory()]))"
    )
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("XDG", "LAZYFS"))
    }
    done = subprocess.run(
        ["unshare", "-U", "--map-user=0", "--map-group=0", sys.executable, "-c", code],
        env=environment | {"HOME": "/home/somebody"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == ["/home/somebody/.cache/lazyfs", "/tmp/lazyfs-0"]
    shutil.rmtree("/tmp/lazyfs-0")  # perhaps with what other tests' starts remember in it
    assert is_root_of_node()
    assert outer_user(5) == 5


def test_a_user_without_a_home_is_asked_for_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 64125)
    monkeypatch.setattr("os.getuid", lambda: 64125)
    with pytest.raises(UsageError, match="user 64125 has no home; name one with --cache"):
        default_cache()


def test_the_socket_of_a_users_daemon_is_the_users_alone(tmp_path: Path) -> None:
    """Root's daemon answers some requests of other users; tests/daemon/test_said.py tests its socket."""
    listening = control_socket.listen(str(tmp_path / "user.sock"), everybody=False)
    assert os.stat(listening.path).st_mode & 0o777 == 0o600
    listening.close()
