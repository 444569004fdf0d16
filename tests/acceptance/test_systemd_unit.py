"""The unit `lazyfs@.service` under a real systemd, in a Debian 12 that systemd-nspawn boots: its descriptor
store keeps a mount whose daemon is killed, and no reader notices a kill, a reload or an upgrade."""

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.booted_machine import PACKAGE, BootedMachine, booted, installed_root
from tests.support.steady_readers import no_error, published_images, readers
from tests.support.until import until

pytestmark = [pytest.mark.root, pytest.mark.alone, pytest.mark.long, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
UNIT = "lazyfs@site"
MOUNT = Path("/mnt/images")
IMAGES, READERS, KILLS = 5, 20, 8
SETTINGS = f"""
mountpoint = "{MOUNT}"
source = "/srv/store"
user = "lazyfs"
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootedMachine]:
    directory = tmp_path_factory.mktemp("machine")
    published = published_images(directory / "images", IMAGES)
    with installed_root(directory, package(directory / "built")) as root:
        (root / "etc/lazyfs/site.toml").write_text(SETTINGS)
        (root / f".{MOUNT}").mkdir()
        binds = [f"--bind-ro={published.store}:/srv/store"]
        binds += [f"--bind-ro={ROOT}/tests/support/steady_reader.py:/srv/steady_reader.py"]
        with booted(root, binds) as found:
            yield found


def package(directory: Path) -> Path:
    """Returns the package to try: one of this checkout, or the file in LAZYFS_PACKAGE."""
    if "LAZYFS_PACKAGE" in os.environ:
        return Path(os.environ["LAZYFS_PACKAGE"])
    subprocess.run([ROOT / "tools/package", "--output", directory, "deb"], check=True)
    (built,) = directory.glob("*.deb")
    return built


@pytest.fixture
def started(machine: BootedMachine) -> Iterator[BootedMachine]:
    machine.run("systemctl", "start", UNIT)
    yield machine
    print(machine.run("journalctl", "--no-pager", "-u", UNIT, "-n", "200").stdout)
    machine.run("systemctl", "stop", UNIT)
    assert machine.run("findmnt", MOUNT, check=False).returncode == 1
    assert machine.shown(UNIT, "ActiveState") == "inactive"
    assert machine.shown(UNIT, "NFileDescriptorStore") == "0"


def reader_program(machine: BootedMachine) -> list[str]:
    return machine.inside("python3", "/srv/steady_reader.py")


def successions(machine: BootedMachine) -> int:
    """Returns how often the mount was taken over."""
    told = machine.run("lazyfs", "status", MOUNT, "--json").stdout
    return int(told.partition('"successions":')[2].partition(",")[0])


def kill_the_daemon(machine: BootedMachine) -> None:
    """Kills the daemon, and returns once the unit has another one."""
    before = machine.shown(UNIT, "MainPID")
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", UNIT)
    until(lambda: machine.shown(UNIT, "MainPID") not in (before, "0"))
    until(lambda: machine.shown(UNIT, "ActiveState") == "active")


def test_no_reader_notices_that_daemons_are_killed(started: BootedMachine) -> None:
    assert started.shown(UNIT, "FileDescriptorStoreMax") == "4"
    assert started.shown(UNIT, "NFileDescriptorStore") == "2"
    with readers(MOUNT, READERS, reader_program(started)) as found:
        for _ in range(KILLS):
            time.sleep(3)  # five starts within 10 s would be systemd's limit
            kill_the_daemon(started)
    no_error(found)
    assert started.shown(UNIT, "NRestarts") == str(KILLS)
    assert successions(started) == KILLS
    assert started.shown(UNIT, "NFileDescriptorStore") == "2"


def test_no_reader_notices_a_reload_or_an_upgrade(started: BootedMachine) -> None:
    """The daemon is no longer root's when it replaces its program. The package's scripts reload, too."""
    before = started.shown(UNIT, "MainPID")
    with readers(MOUNT, READERS, reader_program(started)) as found:
        for number in range(1, 4):
            started.run("systemctl", "reload", UNIT)
            assert successions(started) == number
        said = started.run("dpkg", "--install", PACKAGE)
        assert "goes on with the version before" not in said.stderr
        assert successions(started) == 4
        kill_the_daemon(started)  # the store holds the descriptors all the time
    no_error(found)
    assert started.shown(UNIT, "NRestarts") == "1"
    assert before != started.shown(UNIT, "MainPID")


def test_a_removal_is_refused_while_a_program_reads(started: BootedMachine) -> None:
    with readers(MOUNT, 1, reader_program(started)) as found:
        refused = started.run("apt-get", "-y", "remove", "lazyfs", check=False)
        assert refused.returncode != 0
        assert "python3" in refused.stdout + refused.stderr  # the holder is named
        assert started.shown(UNIT, "ActiveState") == "active"
        time.sleep(1)
    no_error(found)


def test_a_restart_mounts_anew(started: BootedMachine) -> None:
    before = started.shown(UNIT, "MainPID")
    started.run("systemctl", "restart", UNIT)
    assert started.shown(UNIT, "MainPID") != before
    assert started.run("ls", f"{MOUNT}/lib").stdout.split() == [f"image:{n}" for n in range(IMAGES)]
    assert started.shown(UNIT, "NFileDescriptorStore") == "2"


def test_a_daemon_that_dies_again_and_again_ends_in_errors(started: BootedMachine) -> None:
    """systemd gives up a unit that needs five starts within 10 s, and closes its descriptors: the mount is
    dead, and hangs nobody. The unit's next start replaces it."""

    def has_failed() -> bool:
        started.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", UNIT, check=False)
        return started.shown(UNIT, "ActiveState") == "failed"

    until(has_failed, 60)
    said = started.run("stat", f"{MOUNT}/lib", check=False).stderr
    assert os.strerror(errno.ENOTCONN) in said
    started.run("systemctl", "reset-failed", UNIT)
    started.run("systemctl", "start", UNIT)
    assert started.run("ls", f"{MOUNT}/other").stdout == "still:1\n"
