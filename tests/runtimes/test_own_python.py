"""The children that lazyfs starts with its own Python import nothing from the working directory, which may be
/tmp with files of another user's, and nothing from PYTHONPATH. That every child is started so, ruff checks
(TID251)."""

import os
import sys
from pathlib import Path

import pytest

from lazyfs.demo.files import with_links
from lazyfs.demo.layout import Layout
from tests.support.busybox import busybox_root
from tests.support.processes import run

pytestmark = pytest.mark.root
SCRIPT = Path(sys.executable).parent / "lazyfs"
MODULES = ("click", "contextlib", "json", "msgspec", "re", "sitecustomize", "subprocess", "token", "typing")


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """Returns a directory of modules that write down that they have been imported."""
    trap = tmp_path / "trap"
    trap.mkdir()
    for name in MODULES:
        (trap / f"{name}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'a').write({name!r})\n")
    return trap


@pytest.fixture
def layout(tmp_path: Path) -> str:
    made = Layout(str(tmp_path / "layout"))
    made.add_layer(with_links("/bin/busybox"))
    made.finish("v1", {"Cmd": ["/bin/busybox", "echo", "hello"]})
    return f"oci:{tmp_path}/layout:v1"


def test_neither_jobs_nor_the_demo_nor_a_probe_import_what_lies_about(
    trap: Path, layout: str, tmp_path: Path
) -> None:
    image = busybox_root(tmp_path / "image", "sh")
    for arguments in (
        ["prun", "--containerImage", image, "--exec", "echo hello"],
        ["demo", layout],
        ["run", "--check-isolation", "--runtime", "bubblewrap"],
    ):
        environment = {**os.environ, "PYTHONPATH": str(trap)}
        done = run(SCRIPT, *map(str, arguments), cwd=trap, env=environment)
        assert (done.returncode, (tmp_path / "imported").exists()) == (0, False), (arguments, done.stderr)
