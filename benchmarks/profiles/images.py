"""The images whose starts nobody has recorded: Python with numpy, Perl, and a C++ program with 40 libraries.

Each is an OCI layout of two layers, Debian and its packages with the program, and has the program as its
command. They are built once and kept below the system's temporary directory.
"""

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.startup import layers
from benchmarks.startup.images import TAG, kept_directory, umoci
from benchmarks.startup.workloads import Workload

_PROGRAMS: Final = Path(__file__).parent / "programs"
LIBRARIES: Final = 40
"""The smallest number of libraries that the C++ program must have."""


class Program(NamedTuple):
    """A program, and the image that it is started from."""

    name: str
    packages: tuple[str, ...]
    """Debian packages, without what they merely recommend."""
    command: tuple[str, ...]
    answer: bytes
    script: str = ""
    """Name of the file in `programs` that becomes /opt/SCRIPT of the image."""

    @property
    def workload(self) -> Workload:
        return Workload(self.name, self.name, self.command, self.answer)


PYTHON: Final = Program(
    "python", ("python3-numpy",), ("/usr/bin/python3", "/opt/python.py"), b"result 200.0\n", "python.py"
)
PERL: Final = Program(
    "perl",
    ("libdatetime-perl", "libjson-perl", "libwww-perl", "libxml-libxml-perl"),
    ("/usr/bin/perl", "/opt/perl.pl"),
    b'result {"days":["2024-02-04","2024-02-06"]}\n',
    "perl.pl",
)
CPLUSPLUS: Final = Program("gdal", ("gdal-bin",), ("/usr/bin/gdalinfo", "--version"), b"GDAL 3")
PROGRAMS: Final = (PYTHON, PERL, CPLUSPLUS)


def layout_of(program: Program) -> Path:
    """Returns the layout of a program's image, in which the image has the tag TAG. Makes it unless it is
    kept. Raises CalledProcessError, and RuntimeError if the C++ program has too few libraries."""
    script = (_PROGRAMS / program.script).read_bytes() if program.script else b""
    key = hashlib.sha256(repr(program).encode() + script).hexdigest()[:12]
    kept = kept_directory() / f"profiles-{program.name}-{key}"
    if not kept.is_dir():
        fresh = Path(tempfile.mkdtemp(prefix="profiles-", dir=kept_directory()))
        try:
            _build(program, fresh)
            fresh.rename(kept)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return kept / "layout"


def _build(program: Program, work: Path) -> None:
    image, bundle = f"{work}/layout:{TAG}", work / "bundle"
    umoci("init", "--layout", str(work / "layout"))
    umoci("new", "--image", image)
    umoci("unpack", "--image", image, str(bundle))
    root = bundle / "rootfs"
    layers.debian(root)
    umoci("repack", "--refresh-bundle", "--image", image, str(bundle))
    _install(root, program)
    umoci("repack", "--image", image, str(bundle))
    command = [word for part in program.command for word in ("--config.cmd", part)]
    umoci("config", "--image", image, "--config.env", "PATH=/usr/bin:/bin", *command)
    umoci("gc", "--layout", str(work / "layout"))
    shutil.rmtree(bundle)


def _install(root: Path, program: Program) -> None:
    layers.packages(root, program.packages)
    if program.script:
        shutil.copy2(_PROGRAMS / program.script, root / "opt" / program.script)
    if program is CPLUSPLUS:
        ldd = ["chroot", str(root), "ldd", program.command[0]]
        libraries = subprocess.run(ldd, check=True, capture_output=True, text=True).stdout.count(" => /")
        if libraries < LIBRARIES:
            raise RuntimeError(f"{program.command[0]} has {libraries} libraries, fewer than {LIBRARIES}")
