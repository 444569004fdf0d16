"""The scripts in tools/ explain themselves, and do nothing else, if they are asked for --help."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = (
    "bench", "fresh-machine", "install", "node/install", "package", "quickstart", "service/install", "setup",
    "test",
)  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_explains_itself(name: str, tmp_path: Path) -> None:
    # without programs on PATH but sed, a script that went on would fail
    (tmp_path / "sed").symlink_to("/usr/bin/sed")
    script = ROOT / "tools" / name
    done = subprocess.run(
        ["/bin/bash", script, "--help"],
        cwd=tmp_path,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"tools/{name}" in done.stdout
    head = script.read_text().partition("\nset ")[0].splitlines()[1:]
    assert done.stdout.splitlines() == [line.removeprefix("#").removeprefix(" ") for line in head]


def test_every_script_for_people_is_asked() -> None:
    found = {
        str(path.relative_to(ROOT / "tools"))
        for path in ROOT.glob("tools/**/*")
        if path.is_file() and path.read_bytes().startswith(b"#!/usr/bin/env bash\n#")
    }
    assert found - set(SCRIPTS) == {
        "packaging/try",
        "service/slurm-shards",
    }  # for machines: a test, a template
