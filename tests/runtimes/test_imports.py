"""The modules that the start of a program imports. Every job pays for each millisecond of them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.open_paths import open_to_all

STANDARD = """
abc atexit codecs collections collections.abc contextlib copyreg ctypes ctypes._endian encodings enum
errno fcntl functools gc genericpath grp importlib importlib._abc importlib.machinery importlib.util io
itertools json json.decoder json.encoder json.scanner keyword locale marshal math msvcrt operator os
posix posixpath pwd re re._casefix re._compiler re._constants re._parser reprlib resource runpy select
selectors signal site sitecustomize stat struct subprocess sysconfig threading time types typing
unicodedata usercustomize warnings weakref zipimport zlib
"""
"""Modules of the standard library that a start may import, which takes 20 ms in all. Modules with a leading
underscore, and those of `encodings`, may be imported too."""
OURS = """
lazyfs lazyfs.cli lazyfs.cli.ends lazyfs.cli.options lazyfs.cli.pull_options lazyfs.cli.quick
lazyfs.cli.run_program lazyfs.cli.start_options lazyfs.core lazyfs.core.byte_size lazyfs.core.digits
lazyfs.core.errors lazyfs.core.foreign_text lazyfs.core.image_names lazyfs.core.oci
lazyfs.core.oci.reference lazyfs.core.oci.run_config lazyfs.core.printable lazyfs.core.shown_address
lazyfs.daemon lazyfs.daemon.runtime_directory lazyfs.runtimes lazyfs.runtimes.bind_order
lazyfs.runtimes.bind_places lazyfs.runtimes.choose lazyfs.runtimes.command_checks
lazyfs.runtimes.control_group lazyfs.runtimes.enclosure lazyfs.runtimes.find_image
lazyfs.runtimes.image_defaults lazyfs.runtimes.image_reference lazyfs.runtimes.isolation
lazyfs.runtimes.joined_directories lazyfs.runtimes.launch lazyfs.runtimes.limits
lazyfs.runtimes.path_in_image lazyfs.runtimes.pinned_root lazyfs.runtimes.probe_memory
lazyfs.runtimes.proc_covers lazyfs.runtimes.protocol lazyfs.runtimes.records
lazyfs.runtimes.registry lazyfs.runtimes.result lazyfs.runtimes.scratch lazyfs.runtimes.settings
lazyfs.runtimes.start lazyfs.runtimes.supervise lazyfs.runtimes.underlay lazyfs.runtimes.watcher
lazyfs.system lazyfs.system.binds lazyfs.system.bounded_file lazyfs.system.bounded_look
lazyfs.system.clean_start lazyfs.system.command_line lazyfs.system.control_groups
lazyfs.system.detachment lazyfs.system.durable_file lazyfs.system.executables
lazyfs.system.local_paths lazyfs.system.mount_table lazyfs.system.mountpoint
lazyfs.system.namespaces lazyfs.system.paths_in_mounts lazyfs.system.private_mounts
lazyfs.system.rooted_paths lazyfs.system.syscalls lazyfs.system.trusted_files
lazyfs.system.user_namespace
"""
"""Modules of lazyfs that every start may import: no publishing, trust, transport or cache, and no click."""
OF_A_RUNTIME = {
    "bubblewrap": {"lazyfs.runtimes.bubblewrap", "lazyfs.runtimes.bubblewrap_arguments"},
    "crun": {
        "lazyfs.runtimes.oci",
        "lazyfs.runtimes.enclosed",
        "lazyfs.runtimes.enclosed_init",
        "lazyfs.runtimes.enclosed_programs",
        "lazyfs.runtimes.enclosing",
        "lazyfs.runtimes.trial",
    },
}
"""Runtime -> further modules that its start may import, once the runtime has been probed on the node."""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    root = tmp_path / "image"
    (root / "bin").mkdir(parents=True)
    (root / "bin/true").write_bytes(Path("/bin/busybox").read_bytes())
    (root / "bin/true").chmod(0o755)
    open_to_all(root)
    return root


@pytest.mark.parametrize("runtime", [None, *OF_A_RUNTIME])
def test_a_start_imports_only_what_it_needs(image: Path, tmp_path: Path, runtime: str | None) -> None:
    """Looks at the imports of the second start, because the first start also probes the runtime."""
    (tmp_path / "memory").mkdir(mode=0o700)
    environment = {**os.environ, "LAZYFS_RUNTIME_DIR": str(tmp_path / "memory")}
    chosen = [] if runtime is None else ["--runtime", runtime]
    command = [sys.executable, "-X", "importtime", "-m", "lazyfs", "run", *chosen, str(image), "--", "true"]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    imported = re.findall(r"^import time: .*\| +(\S+)$", done.stderr, re.MULTILINE)
    assert "lazyfs.runtimes.start" in imported
    allowed = {*STANDARD.split(), *OURS.split()} | OF_A_RUNTIME[runtime or "bubblewrap"]
    private = {name for name in imported if name.startswith(("_", "encodings."))}
    assert sorted(set(imported) - allowed - private - {"package"}) == []


def test_a_command_line_that_is_not_surely_right_is_clicks(image: Path) -> None:
    def said(*arguments: str) -> str:
        command = [sys.executable, "-m", "lazyfs", "run", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    assert "No such option '--runtim'" in said("--runtim", "x", str(image), "--", "true")
    assert "Run COMMAND (or the image's own) in IMAGE" in said("--help")
    assert "which image? lazyfs run IMAGE -- COMMAND" in said()
    assert "'magic' is not one of 'host', 'none'" in said("--network", "magic", str(image), "--", "true")
