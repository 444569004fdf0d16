"""The contents of the images, from Debian packages and pinned wheels, with one function for each layer."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.support.debian import root_filesystem

_HERE: Final = Path(__file__).parent
WHEELS: Final = _HERE / "analysis.txt"
PROGRAM: Final = _HERE / "analysis.py"
_BASE_WHEELS: Final = ("numpy", "scipy", "pandas")
"""Wheels of the third layer. The fourth layer has all others, as when a group builds its own image on a
common one."""


def shell(root: Path) -> None:
    """Installs busybox, its links, and the few files that a runtime requires."""
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "root", "var/tmp", "home"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shutil.copy2("/usr/bin/busybox" if os.path.exists("/usr/bin/busybox") else "/bin/busybox", root / "bin")
    applets = subprocess.run([root / "bin/busybox", "--list"], check=True, capture_output=True, text=True)
    for applet in applets.stdout.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    for name in ("hosts", "resolv.conf"):
        (root / "etc" / name).write_text("")


def debian(root: Path) -> None:
    """Installs Debian's minbase, which the tests use too."""
    subprocess.run(["cp", "-a", f"{root_filesystem()}/.", str(root)], check=True)


def packages(root: Path, names: Sequence[str]) -> None:
    """Installs Debian packages with the image's own package manager, and starts no service."""
    environment = {
        **os.environ,
        "DEBIAN_FRONTEND": "noninteractive",
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    }
    # Java's packages run Java, which needs /proc. In a process namespace nothing outlives the installation.
    inside = ("unshare", "--mount", "--pid", "--fork", f"--mount-proc={root}/proc", "chroot", str(root))
    options = ("-o", "APT::Sandbox::User=root", "-o", "Dpkg::Options::=--force-unsafe-io")
    apt = (*inside, "apt-get", "-q", "-y", *options)
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    _quietly(*apt, "update", env=environment)
    _quietly(*apt, "install", "--no-install-recommends", *names, env=environment)
    _quietly(*apt, "clean", env=environment)
    policy.unlink()
    for left in [*(root / "var/lib/apt/lists").iterdir(), *(root / "var/log").glob("*.log")]:
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    (root / "etc/resolv.conf").write_text("")  # debootstrap copied this machine's file
    (root / "etc/hostname").write_text("image\n")


def python(root: Path) -> None:
    """Installs Debian's Python, and what the wheels need of Debian."""
    packages(root, ("python3", "python3-distutils", "libgomp1"))


def wheels(root: Path, requirements: Sequence[str]) -> None:
    """Installs wheels where Debian's Python 3.11 searches. The interpreter that runs this must be a Python
    3.11 too."""
    target = root / "usr/local/lib/python3.11/dist-packages"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    _quietly(*pip, "--no-deps", "--root-user-action=ignore", "--target", str(target), *requirements)


def program(root: Path, directory: Path) -> None:
    """Copies a program's directory to /opt."""
    shutil.copytree(directory, root / "opt" / directory.name)


def pinned(file: Path) -> list[str]:
    """Returns the requirements in a file of pins."""
    return [line for line in file.read_text().splitlines() if line and not line.startswith("#")]


def base_wheels(root: Path) -> None:
    """Installs the wheels of a group's common image."""
    wheels(root, [pin for pin in pinned(WHEELS) if pin.partition("==")[0] in _BASE_WHEELS])


def other_wheels(root: Path) -> None:
    """Installs the analysis libraries and the program."""
    wheels(root, [pin for pin in pinned(WHEELS) if pin.partition("==")[0] not in _BASE_WHEELS])
    shutil.copy2(PROGRAM, root / "opt/analysis.py")


def _quietly(*command: str, env: dict[str, str] | None = None) -> None:
    """Runs a command without showing its output. If it fails, raises RuntimeError with the output."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} exited {done.returncode}:\n{done.stdout}{done.stderr}")
