"""The compared ways (sides) to start a program from an image. Each tool is used as its documentation says."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec

from benchmarks.startup.images import TAG
from benchmarks.startup.plan import APPTAINER, CASYNC, LOCAL, PODMAN, SIF, UNPACK
from tests.support.runtimes import PODMAN_CONF

REGISTRY: Final = "registry.example"
"""The registry's name in the paths of images in the lazyfs repository."""


class Step(msgspec.Struct, frozen=True):
    """One command of a start."""

    argv: list[str]
    env: dict[str, str] = {}


class Place(msgspec.Struct, frozen=True):
    """The directory, image and server of one start."""

    directory: str
    """Directory of the worker's files. It is emptied before a cold start, and measured after every start."""
    image: str
    """Name of the image."""
    origin: str
    """HOST:PORT at which the relay passes connections on to the image's server."""
    group: str = ""
    """Path of the control group of the start."""

    def path(self, name: str) -> str:
        return os.path.join(self.directory, name)


class Side(Protocol):
    """One way to start a program."""

    name: str
    origin: str
    """The server that the images come from: `registry` or `files`."""

    def fetch(self, place: Place) -> Sequence[Step]:
        """Returns the commands that must have ended before the program can run: the pull or the mount."""
        ...

    def run(self, place: Place, command: Sequence[str]) -> Step:
        """Returns the command that runs the program."""
        ...

    def clean(self, place: Place) -> None:
        """Unmounts and ends everything that the start has left mounted or running."""
        ...


def bubblewrap(root: str, command: Sequence[str]) -> Step:
    """Returns the start of a command with bubblewrap, the lightest runtime. All sides without a runtime of
    their own use it, so that they do not differ in this."""
    sandbox = ["bwrap", "--ro-bind", root, "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    return Step([*sandbox, "--unshare-all", "--die-with-parent", *command])


class Podman:
    """podman pull, then podman run: with native overlay, runc, six layers in parallel (podman's default), and
    unpigz if it is installed."""

    name = PODMAN
    origin = "registry"

    def _podman(self, place: Place, *arguments: str) -> Step:
        conf = Path(place.path("containers.conf"))
        conf.write_text(PODMAN_CONF)
        roots = ("--root", place.path("storage"), "--runroot", place.path("run"), "--runtime", "runc")
        environment = {"CONTAINERS_CONF": str(conf), "TMPDIR": place.directory}
        return Step(["podman", *roots, "--storage-driver", "overlay", *arguments], environment)

    def _reference(self, place: Place) -> str:
        return f"{place.origin}/{place.image}:{TAG}"

    def fetch(self, place: Place) -> Sequence[Step]:
        return [self._podman(place, "pull", "--quiet", "--tls-verify=false", self._reference(place))]

    def run(self, place: Place, command: Sequence[str]) -> Step:
        options = (
            "--rm",
            "--network=none",
            "--pull=never",
            f"--cgroup-parent=/{place.group}",
            "--log-driver=none",
        )
        return self._podman(place, "run", *options, self._reference(place), *command)

    def clean(self, place: Place) -> None:
        """Unmounts podman's storage, which podman leaves mounted."""
        subprocess.run(["umount", "--lazy", place.path("storage/overlay")], check=False, capture_output=True)


SIF_OPTIONS: Final = ("--mksquashfs-args", "-comp zstd -Xcompression-level 3")
"""zstd is faster than gzip, the default, both to compress and to read. Only `apptainer build` offers the
choice."""


class _Sif:
    """A start with apptainer from a SIF file."""

    def __init__(self, program: str) -> None:
        self._program = program

    def _apptainer(self, place: Place, *arguments: str) -> Step:
        environment = {
            "APPTAINER_CACHEDIR": place.path("cache"),
            "APPTAINER_TMPDIR": place.directory,
            "APPTAINER_CONFIGDIR": place.path("config"),
        }
        return Step([self._program, "--silent", *arguments], environment)

    def run(self, place: Place, command: Sequence[str]) -> Step:
        options = ("exec", "--cleanenv", "--no-home", "--contain", place.path("image.sif"))
        return self._apptainer(place, *options, *command)

    def clean(self, place: Place) -> None:
        """Does nothing: apptainer unmounts by itself."""


class ApptainerBuild(_Sif):
    """Each worker builds the SIF file from the registry's image, as `apptainer pull docker://` does, but with
    zstd compression."""

    name = APPTAINER
    origin = "registry"

    def fetch(self, place: Place) -> Sequence[Step]:
        reference = f"docker://{place.origin}/{place.image}:{TAG}"
        build = ("build", "--no-https", "--disable-cache", *SIF_OPTIONS, place.path("image.sif"), reference)
        return [self._apptainer(place, *build)]


class ApptainerPull(_Sif):
    """The SIF file was built once for all workers, and a web server serves it. This is how sites usually do
    it."""

    name = SIF
    origin = "files"

    def fetch(self, place: Place) -> Sequence[Step]:
        url = f"http://{place.origin}/sif/{place.image}.sif"
        return [self._apptainer(place, "pull", "--disable-cache", place.path("image.sif"), url)]


class Unpack:
    """skopeo copies the image into an OCI layout, umoci unpacks that layout, and bubblewrap starts the
    program in the tree."""

    name = UNPACK
    origin = "registry"

    def fetch(self, place: Place) -> Sequence[Step]:
        layout, source = place.path("layout"), f"docker://{place.origin}/{place.image}:{TAG}"
        copy = ["skopeo", "copy", "--quiet", "--src-tls-verify=false", source, f"oci:{layout}:{TAG}"]
        unpack = ["umoci", "--log=error", "unpack", "--image", f"{layout}:{TAG}", place.path("bundle")]
        return [Step(copy, {"TMPDIR": place.directory}), Step(unpack)]

    def run(self, place: Place, command: Sequence[str]) -> Step:
        return bubblewrap(place.path("bundle/rootfs"), command)

    def clean(self, place: Place) -> None:
        """Does nothing: this side leaves no process or mount behind."""


class Lazyfs:
    """lazyfs mount, then bubblewrap from the mount."""

    origin = "files"

    def __init__(
        self,
        name: str,
        trust: str,
        proxy: str | None = None,
        store: str = "store",
        python: str = sys.executable,
    ) -> None:
        """Prepares the side. `python` is the interpreter whose lazyfs mounts."""
        self.name = name
        self._store = store
        self._python = python
        self._options = ["--trust", trust, *(["--proxy", proxy] if proxy else [])]

    def _mountpoint(self, place: Place) -> str:
        return f"{place.directory}.lazyfs"

    def fetch(self, place: Place) -> Sequence[Step]:
        mountpoint = self._mountpoint(place)
        os.makedirs(mountpoint, exist_ok=True)
        options = ["--cache", place.path("cache"), "--cache-limit", "8G", *self._options]
        options += ["--log", place.path("log")]
        mount = [
            self._python,
            "-P",  # imports the interpreter's own lazyfs, not the one in the working directory
            "-m",
            "lazyfs",
            "mount",
            f"http://{place.origin}/{self._store}",
            mountpoint,
            *options,
        ]
        return [Step(mount, {"XDG_STATE_HOME": place.path("state")})]

    def run(self, place: Place, command: Sequence[str]) -> Step:
        root = os.path.join(self._mountpoint(place), REGISTRY, f"{place.image}:{TAG}")
        return bubblewrap(root, command)

    def clean(self, place: Place) -> None:
        mountpoint = self._mountpoint(place)
        if os.path.ismount(mountpoint):
            umount = [self._python, "-P", "-m", "lazyfs", "umount", mountpoint]
            subprocess.run(umount, check=False, capture_output=True)
        _unmount(mountpoint)


class Casync:
    """casync mount of an index over HTTP. casync is content-addressed too, with chunks of 64 KiB on average,
    but keeps no data that it has read: its option --cache is only for making archives."""

    name = CASYNC
    origin = "files"

    def _mountpoint(self, place: Place) -> str:
        return f"{place.directory}.casync"

    def fetch(self, place: Place) -> Sequence[Step]:
        mountpoint = self._mountpoint(place)
        os.makedirs(mountpoint, exist_ok=True)
        index = f"http://{place.origin}/casync/{place.image}.caidx"
        script = (
            'casync mount --store="$1" "$2" "$3" >"$4" 2>&1 </dev/null & '
            'until mountpoint -q "$3"; do kill -0 $! || exit 1; sleep 0.02; done'
        )
        store = f"http://{place.origin}/casync/default.castr"
        return [Step(["sh", "-c", script, "sh", store, index, mountpoint, place.path("casync.log")])]

    def run(self, place: Place, command: Sequence[str]) -> Step:
        return bubblewrap(self._mountpoint(place), command)

    def clean(self, place: Place) -> None:
        _unmount(self._mountpoint(place))


class Local:
    """A tree that was unpacked before the measurement begins."""

    name = LOCAL
    origin = "files"

    def __init__(self, trees: Mapping[str, str]) -> None:
        self._trees = trees

    def fetch(self, place: Place) -> Sequence[Step]:
        """Returns no commands: nothing has to be fetched."""
        del place
        return []

    def run(self, place: Place, command: Sequence[str]) -> Step:
        return bubblewrap(self._trees[place.image], command)

    def clean(self, place: Place) -> None:
        """Does nothing: this side leaves no process or mount behind."""


def _unmount(mountpoint: str) -> None:
    if os.path.ismount(mountpoint):
        subprocess.run(["umount", "--lazy", mountpoint], check=True)
    if os.path.isdir(mountpoint):
        os.rmdir(mountpoint)
