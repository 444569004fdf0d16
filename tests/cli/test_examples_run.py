"""The examples of --help and README run in the order of a site's first day, on a new repository.

The remaining examples need a registry by name, another machine, or root's own folders. For these,
test_examples.py checks only that click accepts the command line.
"""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from lazyfs.demo.files import with_links
from lazyfs.demo.layout import Layout
from tests.cli.test_examples import DOCUMENTS, HELP
from tests.support.cli import lazyfs, serving

PUBLISHER = [
    "lazyfs repo init /srv/unpacked --name unpacked.example.org",
    "lazyfs publish oci:./layout:bookworm /srv/unpacked --as registry.example/debian:bookworm",
    "lazyfs publish dir:/opt/software /srv/unpacked --as software/2026",
]
PLACES = [
    "registry.example/app:1",
    "registry.example/app:2",
    "registry.example/physics/analysis:1.2",
    "library/alpine:3.10.2",
    "library/python:3.11",
    "debian:bookworm",
]
READER = [
    "lazyfs inspect registry.example/app:1 /srv/unpacked",
    "lazyfs diff registry.example/app:1 registry.example/app:2 /srv/unpacked",
    "lazyfs export registry.example/app:1 /srv/unpacked oci-archive:app.tar",
    "lazyfs export registry.example/app:1 /srv/unpacked sif:app.sif",
    "lazyfs publish sif:app.sif /srv/unpacked --as registry.example/team/app:1",
    "lazyfs check /srv/unpacked",
    "lazyfs log /srv/unpacked",
    "lazyfs log registry.example/app:1 /srv/unpacked",
    "lazyfs repo keep run3-2026 /srv/unpacked",
    "lazyfs repo release run3-2026 /srv/unpacked",
    "lazyfs rm --untagged --dry-run /srv/unpacked",
    "lazyfs gc /srv/unpacked --dry-run",
    "lazyfs gc /srv/unpacked",
]
MOUNT = "lazyfs mount http://origin.example/unpacked /mnt --trace start.trace"
NODE = [
    "lazyfs run registry.example/physics/analysis:1.2 -- python3 job.py",
    "lazyfs run library/alpine:3.10.2 -- cat /etc/os-release",
    'lazyfs run library/python:3.11 --work "$PWD":/srv -- python3 analysis.py',
    "lazyfs run debian:bookworm -- cat /etc/os-release",
    "lazyfs prefetch registry.example/physics/analysis:1.2 --limit-rate 10M",
    "lazyfs export registry.example/app:1 /mnt/unpacked tar:app-1.tar",
    "lazyfs cache pin library/alpine:3.10.2",
    "lazyfs cache resize 20G",
    "lazyfs status /mnt/unpacked",
    "lazyfs probe /mnt/unpacked",
    "lazyfs showconfig /mnt/unpacked",
    "lazyfs doctor /mnt/unpacked",
    "lazyfs bugreport -o report.tar.gz",
    "lazyfs umount /mnt/unpacked",
]
PROFILE = "lazyfs profile make registry.example/physics/analysis:1.2 start.trace /srv/unpacked"
RECORD = "lazyfs profile record registry.example/physics/analysis:1.2 /srv/unpacked -- python3 job.py"
PROFILES = [
    "lazyfs profile show registry.example/app:1 /srv/unpacked",
    "lazyfs profile export registry.example/app:1 /srv/unpacked -o start.paths",
    "lazyfs profile drop registry.example/app:1 /srv/unpacked",
    "lazyfs profile import registry.example/app:1 start.paths /srv/unpacked",
]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Makes a home, an image layout whose python3 and cat print their arguments, and a folder of software."""
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "LAZYFS_RUNTIME_DIR"):
        (tmp_path / name).mkdir(mode=0o700)
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    for folder in ("software", "mnt"):
        (tmp_path / folder).mkdir()
    scripts = []
    for tool in ("python3", "cat"):
        script = tmp_path / tool
        script.write_text('#!/bin/busybox sh\necho "$0 $*"\n')
        script.chmod(0o755)
        scripts.append(str(script))
    layout = Layout(str(tmp_path / "layout"))
    layout.add_layer([*with_links("/bin/busybox")])
    layout.add_layer(scripts, path_in_image=lambda path: f"/usr/bin/{os.path.basename(path)}")
    layout.finish("bookworm", {"Env": ["PATH=/usr/bin:/bin"]})
    yield tmp_path
    lazyfs("umount", tmp_path / "mnt", check=False)


def typed(line: str, site: Path, url: str = "") -> list[str]:
    """Returns the arguments of an example. Its paths and URL are replaced by the test's own."""
    assert line in (*HELP, *DOCUMENTS), f"{line} is no longer in --help or the documents"
    for place, ours in (
        ("/srv/unpacked", site / "store"),
        ("/opt/software", site / "software"),
        ("http://origin.example/unpacked", url),
        ("/mnt ", f"{site / 'mnt'} "),
        ("/mnt/unpacked", site / "mnt"),
        ("$PWD", site),
    ):
        line = line.replace(place, str(ours))
    return shlex.split(line)[1:]


@pytest.mark.root
def test_the_examples_work_in_the_order_of_a_first_day(site: Path) -> None:
    for line in PUBLISHER:
        lazyfs(*typed(line, site))
    for place in PLACES:
        lazyfs("publish", "oci:./layout:bookworm", site / "store", "--as", place)
    for line in READER:
        lazyfs(*typed(line, site))
    with serving(site / "store") as url:
        lazyfs(*typed(MOUNT, site, url), "--trust", site / "store/metadata/1.root.json")
        said = [lazyfs(*typed(line, site)).stdout for line in NODE]
    assert said[:4] == [
        "/usr/bin/python3 job.py\n",
        "/usr/bin/cat /etc/os-release\n",
        "/usr/bin/python3 analysis.py\n",
        "/usr/bin/cat /etc/os-release\n",
    ]
    assert "registry.example/physics/analysis" not in lazyfs(*typed(PROFILE, site)).stderr
    recorded = lazyfs(*typed(RECORD, site))
    assert "/usr/bin/python3 job.py" in recorded.stderr
    for line in PROFILES:
        lazyfs(*typed(line, site))
