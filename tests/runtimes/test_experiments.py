"""The ways in which experiments start programs: four of ATLAS's pilot, and Fermi's two kinds of images."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.runtimes.test_nested import OUTER
from tests.support.busybox import busybox_root
from tests.support.open_paths import open_to_all
from tests.support.runtimes import NOBODY, lazyfs_of, run, search_path

pytestmark = pytest.mark.root

USERS = {"root": None, "user": NOBODY}


def make_image(root: Path, *programs: str) -> Path:
    """Makes a root filesystem of busybox, without any directory that a site would bind to."""
    busybox_root(root, "sh", "cat", "ls", "pwd", "echo", "touch")
    for name in programs:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"#!/bin/sh\necho {name} in $PWD; cat input >output\n")
        (root / name).chmod(0o755)
    return root


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Makes a site with images, a mounted software tree, a shared filesystem, a queue's settings and a job;
    returns its directory."""
    make_image(tmp_path / "base")
    make_image(tmp_path / "standalone", "usr/bin/transform")
    software = tmp_path / "cvmfs/atlas.cern.ch/transform"
    software.parent.mkdir(parents=True)
    software.write_text("#!/bin/sh\necho cvmfs transform in $PWD; cat input >output\n")
    (tmp_path / "lustre_2").mkdir()
    (tmp_path / "lustre_2/conditions").write_text("conditions\n")
    (tmp_path / "work").mkdir()
    (tmp_path / "work/input").write_text("events\n")
    (tmp_path / "run.toml").write_text(
        'container_type = "singularity:pilot;docker:wrapper"\n'
        f'container_options = "-B {tmp_path}/lustre_2:/mnt/lustre_2 --contain --ipc"\n'
    )
    open_to_all(tmp_path)
    software.chmod(0o755)
    return tmp_path


@pytest.fixture(params=USERS)
def user(request: pytest.FixtureRequest, site: Path) -> int | None:
    number = USERS[request.param]
    if number is not None:
        os.chown(site / "work", number, number)
    return number


def pilot(site: Path, user: int | None, image: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(
        [site / image, "--work", f"{site}/work:/srv", *arguments],
        user=user,
        environment={"LAZYFS_RUN_SETTINGS": str(site / "run.toml")},
    )


def test_the_pilot_starts_software_of_the_mount_in_a_base_image(site: Path, user: int | None) -> None:
    binds = ("-B", f"{site}/cvmfs:/cvmfs:ro", "--json")
    done = pilot(site, user, "base", *binds, "--", "/cvmfs/atlas.cern.ch/transform")
    assert done.stdout == "cvmfs transform in /srv\n", done.stderr
    assert json.loads(done.stderr)["runtime"] == "apptainer"  # which is what the queue calls singularity
    assert (site / "work/output").read_text() == "events\n"


def test_the_pilot_starts_a_standalone_image(site: Path, user: int | None) -> None:
    done = pilot(site, user, "standalone", "--", "/bin/sh", "-c", "cd /srv;pwd;/usr/bin/transform")
    assert (done.stdout, done.stderr) == ("/srv\nusr/bin/transform in /srv\n", "")
    assert (site / "work/output").read_text() == "events\n"


def test_the_batch_system_starts_the_pilot_in_a_container(site: Path, user: int | None) -> None:
    """The pilot already runs in a container, so it starts the program directly, in the same container."""
    (site / "work/pilot.sh").write_text("cat /mnt/lustre_2/conditions; sh /cvmfs/atlas.cern.ch/transform\n")
    done = pilot(site, user, "base", "-B", f"{site}/cvmfs:/cvmfs:ro", "--", "sh", "pilot.sh")
    assert (done.stdout, done.stderr) == ("conditions\ncvmfs transform in /srv\n", "")


@pytest.mark.parametrize("image", ["base", "standalone"])
def test_the_pilot_in_the_batch_systems_container_starts_another_one(site: Path, image: str) -> None:
    os.chown(site / "work", NOBODY, NOBODY)
    identity, start = lazyfs_of(NOBODY)[:4], lazyfs_of(NOBODY)[4:]
    program = "/usr/bin/transform" if image == "standalone" else "/cvmfs/atlas.cern.ch/transform"
    options = ["--work", f"{site}/work:/srv", "-B", f"{site}/cvmfs:/cvmfs:ro", "--", program]
    done = subprocess.run(
        [*identity, *OUTER, *start, "run", site / image, *options],
        env={**os.environ, "PATH": search_path(), "LAZYFS_RUN_SETTINGS": str(site / "run.toml")},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd="/",
    )
    assert done.stdout.endswith("transform in /srv\n"), done.stderr
    assert (site / "work/output").read_text() == "events\n"


def test_fermis_light_image_with_what_is_mounted_in(site: Path, user: int | None) -> None:
    """The start binds to targets that the image lacks, binds single configuration files, and names sources
    that this site does not have."""
    (site / "afs/ground/software").mkdir(parents=True)
    (site / "afs/ground/software/setup").write_text("GLAST_EXT\n")
    (site / "wallet").mkdir()
    (site / "wallet/tnsnames.ora").write_text("GLASTP\n")
    (site / "xrootd.cf").write_text("client\n")
    open_to_all(site)
    binds = [
        f"{site}/afs/ground/software:/software:ro",
        *(f"/none/{name}:/{name}" for name in ("nfs", "sps", "gpfs")),
        f"{site}/wallet:/u/gl/glast/oracle:ro",
        f"{site}/xrootd.cf:/etc/xrootd/client.conf:ro",
    ]
    program = "cat /software/setup /u/gl/glast/oracle/tnsnames.ora /etc/xrootd/client.conf; ls /"
    options = [word for bind in binds for word in ("-B", bind)]
    done = run([site / "base", *options, "--", "sh", "-c", program], user=user)
    *files, rest = done.stdout.split("\n", 3)
    assert files == ["GLAST_EXT", "GLASTP", "client"]
    assert {"software", "u", "etc"} <= set(rest.split())
    assert not {"nfs", "sps", "gpfs"} & set(rest.split())
    assert [line.split(": ", 1)[1] for line in done.stderr.splitlines()] == [
        f"bind source /none/{name} does not exist on this machine; it is left out"
        for name in ("nfs", "sps", "gpfs")
    ]
    assert sorted(os.listdir(site / "base")) == ["bin"]


def test_fermis_image_with_everything_in_it(site: Path, user: int | None) -> None:
    done = pilot(site, user, "standalone", "--runtime", "bubblewrap", "--network", "none", "--", "transform")
    assert (done.stdout, done.stderr) == ("usr/bin/transform in /srv\n", "")
