"""The contents of the images, from Debian packages and pinned wheels, with one function for each layer."""

import os
import shutil
import subprocess
import sys
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


def python(root: Path) -> None:
    """Installs Debian's Python with the image's own package manager."""

    def inside(*command: str) -> None:
        environment = {
            **os.environ,
            "DEBIAN_FRONTEND": "noninteractive",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }
        _quietly("chroot", str(root), *command, env=environment)

    apt = ("apt-get", "-q", "-y", "-o", "APT::Sandbox::User=root")
    inside(*apt, "update")
    inside(*apt, "install", "--no-install-recommends", "python3", "python3-distutils", "libgomp1")
    inside("apt-get", "clean")
    for left in [*(root / "var/lib/apt/lists").iterdir(), *(root / "var/log").glob("*.log")]:
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    (root / "etc/resolv.conf").write_text("")  # debootstrap copied this machine's file
    (root / "etc/hostname").write_text("image\n")


def _wheels(root: Path, requirements: list[str]) -> None:
    # Debian's Python 3.11 in the image searches this directory; the wheels are for the same interpreter.
    target = root / "usr/local/lib/python3.11/dist-packages"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    _quietly(*pip, "--no-deps", "--root-user-action=ignore", "--target", str(target), *requirements)


def _pinned() -> list[str]:
    return [line for line in WHEELS.read_text().splitlines() if line and not line.startswith("#")]


def base_wheels(root: Path) -> None:
    """Installs the wheels of a group's common image."""
    _wheels(root, [pin for pin in _pinned() if pin.partition("==")[0] in _BASE_WHEELS])


def other_wheels(root: Path) -> None:
    """Installs the analysis libraries and the program."""
    _wheels(root, [pin for pin in _pinned() if pin.partition("==")[0] not in _BASE_WHEELS])
    shutil.copy2(PROGRAM, root / "opt/analysis.py")


def _quietly(*command: str, env: dict[str, str] | None = None) -> None:
    """Runs a command without showing its output. If it fails, raises RuntimeError with the output."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} exited {done.returncode}:\n{done.stdout}{done.stderr}")
