"""Installs a checkout's lazyfs as users have it, not as an editable install.

The finder of an editable install imports 40 modules into every process. This takes 20 ms of processor time,
more than a tenth of a mount.
"""

import subprocess
import sysconfig
from pathlib import Path


def installed(checkout: Path, place: Path) -> str:
    """Installs a checkout into a new environment at `place`; returns the interpreter of that environment. The
    dependencies come from the checkout's own environment, which tools/setup must have made. Raises
    CalledProcessError."""
    ours = checkout / ".venv"
    python = str(ours / "bin/python")
    subprocess.run([python, "-m", "venv", "--without-pip", str(place)], check=True)
    modules = Path(sysconfig.get_path("purelib", vars={"base": str(place)}))
    dependencies = sysconfig.get_path("purelib", vars={"base": str(ours)})
    (modules / "dependencies.pth").write_text(f"{dependencies}\n")  # a path: its own .pth files do not count
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    options = ["--root-user-action=ignore", "--no-deps", "--no-build-isolation", "--target", str(modules)]
    subprocess.run([*pip, *options, str(checkout)], check=True)
    return str(place / "bin/python")
