"""Binds and restricted mounts, with mount_setattr(2) and with the fallback for kernels that lack it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

SCRIPT = """
import json, os, sys
from lazyfs.system import binds, namespaces
from lazyfs.system.mountpoint import mounts
top, older = sys.argv[1], sys.argv[2] == "older"
if older:
    binds._set_attributes = lambda top, flags: False
source, target = f"{top}/so urce", f"{top}/tar get"
for path in (source, target, f"{target}-beside"):
    os.mkdir(path)
namespaces.mount("tmpfs", source, "tmpfs", namespaces.NOEXEC)
os.mkdir(f"{source}/in ner")
namespaces.mount("tmpfs", f"{source}/in ner", "tmpfs", namespaces.NODEV)
namespaces.mount("tmpfs", f"{target}-beside", "tmpfs")
binds.bind(source, target, read_only=True, devices=True)
ours = [mount for mount in mounts() if mount.mountpoint.startswith(top)]
print(json.dumps({mount.mountpoint.removeprefix(top): mount.options.split()[0] for mount in ours}))
"""


@pytest.mark.parametrize("kernel", ["newer", "older"])
def test_a_bind_is_restricted_with_all_that_is_mounted_below(tmp_path: Path, kernel: str) -> None:
    """Mounts keep their own flags and get the new ones; source and neighbours stay as they are."""
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", SCRIPT, tmp_path, kernel],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = {path: set(text.split(",")) - {"relatime"} for path, text in json.loads(done.stdout).items()}
    assert found == {
        "/so urce": {"rw", "noexec"},
        "/so urce/in ner": {"rw", "nodev"},
        "/tar get-beside": {"rw"},
        "/tar get": {"ro", "nosuid", "noexec"},
        "/tar get/in ner": {"ro", "nosuid", "nodev"},
    }
