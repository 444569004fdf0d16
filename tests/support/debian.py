"""A real Debian root filesystem as an OCI image of several layers, made on this machine."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

TAG = "bookworm"


def mirror() -> str:
    """Returns the URL of the Debian mirror that this machine's apt uses."""
    for source in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        if source.is_file():
            found = re.search(r"^(?:URIs:|deb)\s.*?(https?://[^\s\]]+)", source.read_text(), re.MULTILINE)
            if found:
                return found[1]
    raise AssertionError("no apt source names a Debian mirror: debootstrap has nowhere to take packages from")


def root_filesystem() -> Path:
    """Returns the path of a debootstrap minbase tree (about 6,800 entries, 200 MB). It is made once per boot,
    in 30 s, and then shared."""
    kept = Path(tempfile.gettempdir()) / f"lazyfs-debian-{os.getuid()}"
    if not kept.is_dir():
        fresh = Path(tempfile.mkdtemp(prefix="lazyfs-debian-", dir=tempfile.gettempdir()))
        os.chmod(fresh, 0o755)
        subprocess.run(
            ["debootstrap", "--variant=minbase", "--include=ca-certificates", TAG, str(fresh), mirror()],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        for cached in (fresh / "var/cache/apt/archives").glob("*.deb"):
            cached.unlink()
        try:
            fresh.rename(kept)
        except OSError:  # another test process was first
            shutil.rmtree(fresh)
    return kept


def make_image(directory: Path) -> tuple[Path, Path]:
    """Makes an OCI layout of four layers under `directory`. Returns the path of the layout, and the path of
    the tree that `umoci unpack` makes of it as root.

    The upper layers add cases that a Debian system alone lacks: whiteouts, replaced types, hardlinks,
    devices, capabilities, names that are not UTF-8, holes, and a file of several chunks.
    """
    layout = directory / "layout"
    image = f"{layout}:{TAG}"
    _umoci("init", "--layout", str(layout))
    _umoci("new", "--image", image)
    _repack(image, directory / "base", _base)
    for number, change in enumerate((_change, _replace, _remove)):
        _repack(image, directory / f"layer{number}", change)
    _umoci("unpack", "--image", image, str(directory / "bundle"))
    return layout, directory / "bundle" / "rootfs"


PYTHON = ("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libexpat1", "libsqlite3-0")
"""The packages of Debian 12's Python, which tools/setup has installed on this machine."""


def python_image(directory: Path) -> str:
    """Makes an OCI layout of one layer under `directory` with Debian's Python in it; returns LAYOUT:TAG.

    The packages' files are copied from this machine, so nothing is downloaded.
    """
    layout = directory / "python-layout"
    image = f"{layout}:{TAG}"
    _umoci("init", "--layout", str(layout))
    _umoci("new", "--image", image)
    _repack(image, directory / "python", _python)
    return image


def _python(root: Path) -> None:
    _base(root)
    listed = subprocess.run(["dpkg", "--listfiles", *PYTHON], check=True, capture_output=True, text=True)
    for name in sorted(set(filter(None, listed.stdout.split("\n")))):
        target = Path(f"{root}{name}")
        if os.path.isdir(name) and not os.path.islink(name):
            target.mkdir(parents=True, exist_ok=True)
        elif os.path.lexists(name) and not os.path.lexists(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(name, target, follow_symlinks=False)


def _umoci(*arguments: str) -> None:
    subprocess.run(["umoci", "--log=error", *arguments], check=True)


def _repack(image: str, bundle: Path, change: Callable[[Path], None]) -> None:
    _umoci("unpack", "--image", image, str(bundle))
    change(bundle / "rootfs")
    _umoci("repack", "--image", image, str(bundle))
    shutil.rmtree(bundle)


def _base(root: Path) -> None:
    subprocess.run(["cp", "-a", f"{root_filesystem()}/.", str(root)], check=True)


def _change(root: Path) -> None:
    place = root / "srv/cases"
    place.mkdir(parents=True)
    (place / "several-chunks").write_bytes(os.urandom(1 << 20) * 3 + b"tail")
    (place / "empty").write_bytes(b"")
    with (place / "sparse").open("wb") as sparse:
        sparse.seek(5 << 20)
        sparse.write(b"end")
    (place / "one").write_text("shared")
    for name in ("two", "sub/three"):
        (place / name).parent.mkdir(exist_ok=True)
        os.link(place / "one", place / name)
    (place / ("long-" + "n" * 200)).write_text("long name")
    (Path(os.fsdecode(os.fsencode(place) + b"/latin-\xe9\xff"))).write_text("no UTF-8")
    os.symlink("../../" + "d" * 150 + "/target", place / "long-link")
    os.mkfifo(place / "fifo", 0o640)
    os.mknod(place / "null", 0o20666, os.makedev(1, 3))
    os.mknod(place / "block", 0o60660, os.makedev(259, 70000))
    (place / "setuid").write_text("s")
    os.chown(place / "setuid", 1234, 70000)
    os.chmod(place / "setuid", 0o6755)
    (place / "mode-000").write_text("hidden")
    os.chmod(place / "mode-000", 0)
    os.mkdir(place / "sticky")
    os.chmod(place / "sticky", 0o1777)
    os.setxattr(place / "one", "user.note", b"\0binary\xff")
    os.setxattr(
        place / "setuid", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000")
    )
    os.utime(place / "empty", ns=(0, 1_234_567_890_123_456_789))
    os.utime(place / "sub", ns=(0, 987_654_321_000_000_001))


def _replace(root: Path) -> None:
    place = root / "srv/cases"
    (place / "empty").unlink()
    (place / "empty").mkdir()
    (place / "empty/now-a-directory").write_text("x")
    shutil.rmtree(place / "sticky")
    (place / "sticky").write_text("now a file")
    (place / "long-link").unlink()
    (place / "long-link").mkdir()
    with (place / "two").open("a") as shared:  # all three names change together
        shared.write(" and grown")
    os.link(
        root / "etc/hostname" if (root / "etc/hostname").exists() else root / "etc/issue",
        place / "linked-below",
    )


def _remove(root: Path) -> None:
    shutil.rmtree(root / "usr/share/doc")
    (root / "etc/issue.net").unlink()
    (root / "srv/cases/sub/three").unlink()
