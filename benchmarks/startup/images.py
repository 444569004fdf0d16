"""The images that are started: a small shell, and a Python analysis stack of more than 1 GB unpacked.

Both are OCI layouts made on this machine from Debian packages and pinned wheels. They are built once and kept
under the system's temporary directory, because debootstrap and 60 wheels take two minutes.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from tests.support.debian import root_filesystem

TAG: Final = "v1"
_HERE: Final = Path(__file__).parent
_WHEELS: Final = _HERE / "analysis.txt"
_PROGRAM: Final = _HERE / "analysis.py"
_BASE_WHEELS: Final = ("numpy", "scipy", "pandas")
"""What goes into the third layer; the rest is the fourth, as a group builds its own image on a common one."""


class Image(msgspec.Struct, frozen=True):
    """One built image and what is known of it."""

    name: str
    layout: str
    """Directory of the OCI layout; the image's tag in it is TAG."""
    entries: int
    unpacked_bytes: int
    """File content after unpacking, each hardlink group counted once."""
    compressed_bytes: int
    """All blobs: what a pull transfers."""
    layers: int


def kept_directory() -> Path:
    """Where built images and other things worth keeping between runs lie."""
    kept = Path(tempfile.gettempdir()) / f"lazyfs-bench-{os.getuid()}"
    kept.mkdir(mode=0o755, exist_ok=True)
    return kept


def shell_image() -> Image:
    """busybox with its 300 commands: one layer, 2 MB."""
    return _kept("shell", b"", [_shell])


def analysis_image() -> Image:
    """Debian, Python, numpy/scipy/pandas, and the libraries of an analysis on top: four layers, > 1 GB."""
    recipe = _WHEELS.read_bytes() + _PROGRAM.read_bytes()
    return _kept("analysis", recipe, [_debian, _python, _base_wheels, _other_wheels])


def _kept(name: str, recipe: bytes, layers: list[Callable[[Path], None]]) -> Image:
    key = hashlib.sha256(recipe + Path(__file__).read_bytes()).hexdigest()[:12]
    directory = kept_directory() / f"image-{name}-{key}"
    facts = directory / "facts.json"
    if not facts.is_file():
        fresh = Path(tempfile.mkdtemp(prefix=f"image-{name}-", dir=kept_directory()))
        try:
            built = _build(name, fresh, directory, layers)
            (fresh / "facts.json").write_bytes(msgspec.json.encode(built))
            shutil.rmtree(directory, ignore_errors=True)
            fresh.rename(directory)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return msgspec.json.decode(facts.read_bytes(), type=Image)


def _build(name: str, work: Path, final: Path, layers: list[Callable[[Path], None]]) -> Image:
    layout, bundle = work / "layout", work / "bundle"
    image = f"{layout}:{TAG}"
    _umoci("init", "--layout", str(layout))
    _umoci("new", "--image", image)
    _umoci("unpack", "--image", image, str(bundle))
    root = bundle / "rootfs"
    for layer in layers:
        layer(root)
        _umoci("repack", "--refresh-bundle", "--image", image, str(bundle))
    _umoci("config", "--image", image, "--config.env", "PATH=/usr/local/bin:/usr/bin:/bin")
    _umoci("gc", "--layout", str(layout))
    entries, unpacked = _census(root)
    shutil.rmtree(bundle)
    blobs = [blob.stat().st_size for blob in (layout / "blobs/sha256").iterdir()]
    return Image(name, str(final / "layout"), entries, unpacked, sum(blobs), len(layers))


def _quietly(*command: str, env: dict[str, str] | None = None) -> None:
    """apt and pip have much to say that matters only when they fail."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} exited {done.returncode}:\n{done.stdout}{done.stderr}")


def _umoci(*arguments: str) -> None:
    subprocess.run(["umoci", "--log=error", *arguments], check=True)


def _census(root: Path) -> tuple[int, int]:
    entries = unpacked = 0
    seen: set[int] = set()
    for directory, folders, files in os.walk(root):
        entries += len(folders) + len(files)
        for name in files:
            status = os.lstat(os.path.join(directory, name))
            if status.st_ino not in seen:
                seen.add(status.st_ino)
                unpacked += status.st_size
    return entries, unpacked


def _shell(root: Path) -> None:
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


def _debian(root: Path) -> None:
    subprocess.run(["cp", "-a", f"{root_filesystem()}/.", str(root)], check=True)


def _python(root: Path) -> None:
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
    (root / "etc/resolv.conf").write_text("")  # debootstrap copied this machine's
    (root / "etc/hostname").write_text("image\n")


def _wheels(root: Path, requirements: list[str]) -> None:
    # Debian's Python 3.11 in the image finds what lies here; the wheels are for the same interpreter.
    target = root / "usr/local/lib/python3.11/dist-packages"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    _quietly(*pip, "--no-deps", "--root-user-action=ignore", "--target", str(target), *requirements)


def _pinned() -> list[str]:
    return [line for line in _WHEELS.read_text().splitlines() if line and not line.startswith("#")]


def _base_wheels(root: Path) -> None:
    _wheels(root, [pin for pin in _pinned() if pin.partition("==")[0] in _BASE_WHEELS])


def _other_wheels(root: Path) -> None:
    _wheels(root, [pin for pin in _pinned() if pin.partition("==")[0] not in _BASE_WHEELS])
    shutil.copy2(_PROGRAM, root / "opt/analysis.py")
