"""The modules that the start of a program imports. Every job pays for each millisecond of them."""

import subprocess
import sys

NEVER = (
    *("asyncio", "cryptography", "importlib.metadata", "lmdb", "prometheus_client", "pydantic", "pyfuse3"),
    *("requests", "rich", "securesystemslib", "tomllib", "trio", "tuf", "urllib3", "zstandard"),
    *("lazyfs.daemon", "lazyfs.fuse", "lazyfs.client", "lazyfs.transport", "lazyfs.vfs"),
)
ONLY_IF_TRIED = [
    f"lazyfs.runtimes.{name}"
    for name in (
        "apptainer",
        "podman",
        "nspawn",
        "charliecloud",
        "oci",
        "enclosing",
        "trial",
        "jobs",
        "check_isolation",
    )
]


def test_a_start_imports_only_what_it_needs() -> None:
    program = "import sys, lazyfs.runtimes; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = done.stdout.split()
    assert "lazyfs.runtimes.start" in imported
    assert [name for name in (*NEVER, *ONLY_IF_TRIED) if name in imported] == []
