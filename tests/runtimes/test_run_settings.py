"""The site's file of settings, the registry of runtimes, and the remembered results of probes."""

import json
import os
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.runtimes import RunOptions, prepare, probe_memory, registry
from lazyfs.runtimes.launch import Bind, parse_bind
from lazyfs.runtimes.protocol import RuntimeProbe
from lazyfs.runtimes.settings import RunSettings, parse_settings, read_settings
from tests.support.busybox import busybox_root

GOOD = b"""
runtimes = ["apptainer", "bubblewrap"]
binds = ["/cvmfs", "/etc/grid:/etc/grid-security:ro"]
isolation = "wlcg"
[programs]
apptainer = "/cvmfs/oasis.example.org/bin/apptainer"
"""


def test_settings_are_read() -> None:
    found = parse_settings(GOOD, "run.toml")
    assert found == RunSettings(
        ("apptainer", "bubblewrap"),
        (Bind("/cvmfs", "/cvmfs"), Bind("/etc/grid", "/etc/grid-security", True)),
        "wlcg",
        {"apptainer": "/cvmfs/oasis.example.org/bin/apptainer"},
    )


def test_the_notation_of_atlas_is_understood() -> None:
    lines = [
        'container_type = "singularity:pilot;docker:wrapper"',
        'container_options = "-B /mnt/a:/data -c"',
    ]
    found = parse_settings("\n".join(lines).encode(), "run.toml")
    assert found == RunSettings(("singularity",), (Bind("/mnt/a", "/data"),))
    (runtime,) = registry.load(found.runtimes, {})
    assert runtime.name == "apptainer"


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"runtime = 1", "run.toml: 'runtime' is no setting; there are binds, container_options"),
        (b"runtimes = 'crun'", "run.toml: runtimes takes a list of texts"),
        (b"runtimes = [1]", "run.toml: runtimes takes a list of texts"),
        (b"binds = ['a:b:c']", "run.toml: bind 'a:b:c': write SRC"),
        (b"container_type = 'singularity'", "run.toml: container_type 'singularity': 'singularity' is not"),
        (b"container_options = '-w'", "run.toml: container_options: an image is read-only"),
        (b"container_options = '--pwd /srv'", "run.toml: container_options: --pwd is no matter of a site"),
        (b"isolation = 'much'", "run.toml: isolation is 'much'; it takes none, best, wlcg, full"),
        (b"[programs]\nrunc = 'runc'", "run.toml: \\[programs\\] takes NAME"),
        (b"\xff", "run.toml: 'utf-8' codec"),
        (b"a = ", "run.toml: Invalid value"),
    ],
)
def test_a_bad_setting_is_named(raw: bytes, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_settings(raw, "run.toml")


def test_the_file_is_the_one_of_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAZYFS_RUN_SETTINGS", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="none, which LAZYFS_RUN_SETTINGS names, does not exist"):
        read_settings()
    (tmp_path / "none").write_bytes(GOOD)
    assert read_settings().isolation == "wlcg"


def test_a_sites_bind_yields_to_the_callers_at_the_same_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = busybox_root(tmp_path / "image", "sh")
    (root / "data").symlink_to("/srv")
    (tmp_path / "run.toml").write_text('binds = ["/usr:/srv", "/etc:/site"]\n')
    monkeypatch.setenv("LAZYFS_RUN_SETTINGS", str(tmp_path / "run.toml"))
    options = RunOptions((Bind(str(tmp_path), "/data"),), runtime="bubblewrap")
    launch = prepare(str(root), ("sh",), options).launch
    assert [bind.target for bind in launch.binds] == ["/data", "/site"]


def test_modes_of_a_bind() -> None:
    assert parse_bind("/a:/b:ro,required") == Bind("/a", "/b", True, True)
    assert parse_bind("/a::required") == Bind("/a", "/a", False, True)
    for text in ("/a:/b:ro,rw", "/a:/b:read", "/a:/b:", "/a:/b:ro:x"):
        with pytest.raises(UsageError, match="write SRC"):
            parse_bind(text)


def test_the_entry_points_are_the_built_in_runtimes() -> None:
    with (Path(__file__).parents[2] / "pyproject.toml").open("rb") as file:
        offered = tomllib.load(file)["project"]["entry-points"][registry.GROUP]
    assert offered == dict(registry.BUILT_IN)
    names = list(registry.BUILT_IN)
    assert [runtime.name for runtime in registry.load(names, {})] == names


def test_a_package_can_offer_a_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("mine", "lazyfs.runtimes.charliecloud:Charliecloud", registry.GROUP)
    broken = EntryPoint("broken", "lazyfs.runtimes.none:None", registry.GROUP)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [point, broken])
    (found,) = registry.load(["mine"], {})
    assert found.name == "charliecloud"
    with pytest.raises(UsageError, match=r"runtime 'broken' of lazyfs\.runtimes\.none:None cannot be loaded"):
        list(registry.load(["broken"], {}))
    with pytest.raises(UsageError, match=r"'magic' is not known; choose one of: bubblewrap, .*mine, broken"):
        list(registry.load(["magic"], {}))


def test_a_yes_is_remembered_and_a_no_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    program = tmp_path / "program"
    program.write_text("1")
    asked = []

    def ask(usable: bool) -> RuntimeProbe:
        def answer() -> RuntimeProbe:
            asked.append(usable)
            return RuntimeProbe("x", usable, "says")

        return probe_memory.remembered("x", str(program), answer)

    assert [ask(False).usable, ask(False).usable, ask(True).usable, ask(True).usable] == [
        False,
        False,
        True,
        True,
    ]
    assert asked == [False, False, True]
    os.utime(program, ns=(1, 1))  # another executable
    assert ask(True).usable
    assert asked == [False, False, True, True]


def test_a_spoilt_memory_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    yes = RuntimeProbe("x", True, "says")
    probe_memory.remembered("x", "/bin/sh", lambda: yes)
    (kept,) = tmp_path.glob("runtime-x-*")
    for content in ("", "[]", '"x"', json.dumps({"other": 1})):
        kept.write_text(content)
        assert probe_memory.remembered("x", "/bin/sh", lambda: yes) == yes
        assert json.loads(kept.read_text())["says"] == "says"


def test_other_circumstances_are_asked_about_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A remembered probe result is not used if any of the facts recorded with it has changed."""
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    yes = RuntimeProbe("x", True, "says", frozenset({"--able"}))
    no = RuntimeProbe("x", False, "asked")
    probe_memory.remembered("x", "/bin/sh", lambda: yes)
    assert probe_memory.remembered("x", "/bin/sh", lambda: no) == yes
    (kept,) = tmp_path.glob("runtime-x-*")
    document = json.loads(kept.read_text())
    for number in range(len(document["facts"])):
        other = [*document["facts"]]
        other[number] += "x"
        kept.write_text(json.dumps({**document, "facts": other}))
        assert probe_memory.remembered("x", "/bin/sh", lambda: no) == no


def test_memories_of_many_namespaces_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAZYFS_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    for number in range(probe_memory.MOST + 5):
        (tmp_path / f"runtime-y-{number}").touch()
        os.utime(tmp_path / f"runtime-y-{number}", ns=(number, number))
    probe_memory.remembered("x", "/bin/sh", lambda: RuntimeProbe("x", True, "says"))
    names = {path.name for path in tmp_path.iterdir()}
    assert len(names) == probe_memory.MOST
    assert "runtime-y-5" not in names
    assert len([name for name in names if name.startswith("runtime-x-")]) == 1
