"""tools/get-apptainer installs once for many callers, and leaves nothing if it is interrupted. Scripts stand
in for Debian's tools."""

import os
import subprocess
from pathlib import Path

import pytest

_TOOL = Path(__file__).parents[2] / "tools/get-apptainer"
_TOOLS = {
    "apt-get": """
case "$*" in *download*)
    echo >>"$BASE/downloads"
    for name in apptainer libc6 libseccomp2 libsqlite3-0; do touch "${name}_1.deb"; done
esac
""",
    "dpkg-deb": """
mkdir -p "$3/usr/bin" "$3/usr/lib" "$3/etc/apptainer"
cd "$3"
touch libc.so.6 libm.so.6 libseccomp.so.2 libsqlite3.so.0 ld-linux-x86-64.so.2 etc/apptainer/apptainer.conf
printf '#!/bin/sh\\necho half' >usr/bin/apptainer
chmod 755 usr/bin/apptainer
""",
    "patchelf": """
for program; do :; done
[ ! -e "$BASE/interrupted" ] || { rm "$BASE/interrupted"; kill -KILL $PPID; }
case $program in */bin/apptainer) sed -i s/half/whole/ "$program"; esac
""",
}


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bin").mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    for name, script in _TOOLS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\nset -e{script}")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("BASE", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return tmp_path


def started(base: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen([_TOOL, base / "prefix"], stdout=subprocess.PIPE, text=True)


def test_many_callers_install_it_once(base: Path) -> None:
    callers = [started(base) for _ in range(4)]
    assert [caller.communicate(timeout=60)[0] for caller in callers] == ["whole\n"] * 4
    assert (base / "downloads").read_text() == "\n"
    assert sorted(os.listdir(base)) == ["bin", "downloads", "prefix", "tmp"]


def test_what_is_interrupted_leaves_no_half_of_it(base: Path) -> None:
    (base / "interrupted").touch()
    with started(base) as caller:
        assert caller.communicate(timeout=60)[0] == ""
    assert not (base / "prefix").exists()
    with started(base) as caller:
        assert caller.communicate(timeout=60)[0] == "whole\n"


def test_other_files_are_kept(base: Path) -> None:
    (base / "prefix").mkdir()
    (base / "prefix/other").touch()
    done = subprocess.run([_TOOL, base / "prefix"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"{base}/prefix has other files" in done.stderr
    assert os.listdir(base / "prefix") == ["other"]
