"""The mount disappears while a program runs: one line says so, and the result names the mount as the cause of
the failure."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.busybox import busybox_root
from tests.support.cli import LAZYFS, lazyfs, new_repository, status
from tests.support.open_paths import open_to_all
from tests.support.processes import gone
from tests.support.until import until

pytestmark = pytest.mark.root


@pytest.mark.parametrize("runtime", ["bubblewrap", "crun"])
def test_a_mount_gone_in_mid_run(open_path: Path, runtime: str) -> None:
    root = busybox_root(open_path / "image", "sh")
    (root / "deep/er").mkdir(parents=True)
    (root / "deep/er/file").write_bytes(os.urandom(1 << 20))
    open_to_all(root)
    store, keys = new_repository(open_path)
    lazyfs("publish", f"dir:{root}", store, "--as", "image", "--keys", keys)
    mount, result = open_path / "mnt", open_path / "result"
    mount.mkdir()
    trust = ("--trust", store / "metadata/1.root.json", "--cache", open_path / "cache")
    lazyfs("mount", store, mount, *trust, "--no-keeper")
    command = [*LAZYFS, "run", f"{mount}/image", "--runtime", runtime, "--result", str(result), "--"]
    script = "echo ready; read word; busybox cat /deep/er/file >/dev/null || exit 4"
    try:
        with subprocess.Popen(
            [*command, "/bin/busybox", "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            daemon = status(mount)["pid"]
            os.kill(daemon, signal.SIGKILL)
            until(lambda: gone(daemon))
            _, said = process.communicate("go\n", timeout=60)
    finally:
        subprocess.run(["umount", "--lazy", mount], check=True)
    assert process.returncode not in (0, 125)
    assert said.splitlines()[-1] == (
        f"lazyfs: image {mount}/image: its filesystem does not answer any more; is it mounted?"
    )
    found = json.loads(result.read_text())
    assert (found["failed"], found["started"], found["exit_code"]) == ("mount", True, process.returncode)
