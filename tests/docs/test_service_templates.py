"""The timers, units and cron file of tools/service: systemd accepts them, and their commands work."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.registry import real_registry
from tests.support.service_templates import TEMPLATES, Machine


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with real_registry(tmp_path / "registry", accounts_needed=False) as registry:
        yield Machine(tmp_path / "machine", registry)


def lines(path: Path, key: str) -> list[str]:
    """Returns all values of a key in a unit file."""
    return re.findall(rf"^{key}=(.*)$", path.read_text(), re.MULTILINE)


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    (tmp_path / "usr/local/bin").mkdir(parents=True)
    shutil.copy("/bin/true", tmp_path / "usr/local/bin/lazyfs")
    units = []
    for path in sorted(TEMPLATES.glob("lazyfs-*.*")):
        unit = tmp_path / path.name
        unit.write_text(path.read_text().replace("/usr/local/bin", f"{tmp_path}/usr/local/bin"))
        units.append(str(unit))
    assert len(units) == 4
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], check=False, capture_output=True, text=True
    )
    own = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "lazyfs" in line]
    assert own == []
    for path in TEMPLATES.glob("*.timer"):
        (when,) = lines(path, "OnCalendar")
        subprocess.run(["systemd-analyze", "calendar", when], check=True, capture_output=True)
        assert path.with_suffix(".service").exists()


def test_the_commands_of_the_units_publish_sign_and_collect(machine: Machine) -> None:
    unit = TEMPLATES / "lazyfs-sync.service"
    signed = (machine.store / "metadata/timestamp.json").read_bytes()
    for command in [*lines(unit, "ExecStart"), *lines(unit, "ExecStopPost")]:
        subprocess.run(["sh", "-c", machine.here(command)], check=True, env=machine.environment)
        assert (machine.store / "metadata/timestamp.json").read_bytes() != signed
        signed = (machine.store / "metadata/timestamp.json").read_bytes()
    assert machine.published()
    (collect,) = lines(TEMPLATES / "lazyfs-gc.service", "ExecStart")
    subprocess.run(["sh", "-c", machine.here(collect)], check=True, env=machine.environment)
    for path in lines(unit, "ReadWritePaths")[0].split():
        assert Path(machine.here(path)).is_dir()
    written = {path.relative_to(machine.directory).parts[:3] for path in machine.directory.rglob("*.json")}
    assert written == {("srv", "lazyfs", "store"), ("var", "lib", "lazyfs")}


def test_the_cron_file_does_the_same(machine: Machine) -> None:
    entries = [
        line.split(maxsplit=6) for line in (TEMPLATES / "lazyfs.cron").read_text().splitlines()
        if not line.startswith("#")
    ]  # fmt: skip
    assert [entry[5] for entry in entries] == ["publisher", "publisher"]
    for entry in entries:
        assert all(re.fullmatch(r"[\d*]+", field) for field in entry[:5])
        subprocess.run(["sh", "-c", machine.here(entry[6])], check=True, env=machine.environment)
    assert machine.published()
    units = [TEMPLATES / f"lazyfs-{name}.service" for name in ("sync", "gc")]
    commands = [line for unit in units for key in ("ExecStart", "ExecStopPost") for line in lines(unit, key)]
    assert [part for entry in entries for part in entry[6].split("; ")] == commands


def test_the_install_script_puts_them_where_the_walk_expects_them(tmp_path: Path) -> None:
    venv = tmp_path / "venv/bin"
    venv.mkdir(parents=True)
    (venv / "lazyfs").write_text("#!/bin/sh\n")
    (venv / "lazyfs").chmod(0o755)
    root = tmp_path / "root"
    environment = {"PATH": "/usr/bin:/bin", "DESTDIR": str(root)}
    install = [str(TEMPLATES / "install"), str(venv.parent)]
    for _ in range(2):
        subprocess.run(install, check=True, env=environment, capture_output=True)
    installed = {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}
    units = {f"etc/systemd/system/{path.name}" for path in TEMPLATES.glob("lazyfs-*")}
    assert installed == {"usr/local/bin/lazyfs"} | units
    missing = subprocess.run(
        [install[0], str(tmp_path / "none")], check=False, env=environment, capture_output=True, text=True
    )
    assert missing.returncode == 1
    assert "none/bin/lazyfs does not exist" in missing.stderr
