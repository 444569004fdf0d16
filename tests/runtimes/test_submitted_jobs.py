"""Submit files that `lazyfs prun` writes, given to real batch systems: HTCondor 23 reads one, and Slurm runs
one."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.busybox import busybox_root
from tests.support.cli import lazyfs
from tests.support.htcondor import read_jobs
from tests.support.open_paths import open_to_all
from tests.support.slurm import Slurm, one_node_slurm

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    root = busybox_root(tmp_path / "cvmfs/registry.example/alpine:3", "sh", "cat")
    (tmp_path / "data").write_text("events\n")
    open_to_all(tmp_path)
    return root


def test_htcondor_takes_a_directory_of_the_mount(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = ["--containerImage", str(image), "--exec", "cat data", "--outDS", "out", "--extFile", "data"]
    lazyfs("prun", *line, "--outputs", "hist.root", "--nCore", "2", "--memory", "500", "--submit", "htcondor")
    expected = {
        "ContainerImage": str(image),
        "WantContainer": "True",
        "WantSandboxImage": "True",
        "ContainerImageSource": "local",
        "Cmd": str(tmp_path / "out/exec.sh"),
        "TransferInput": str(tmp_path / "data"),
        "TransferOutput": "hist.root",
        "RequestCpus": "2",
        "RequestMemory": "500",
        "x509userproxy": "None",
    }
    (job,) = read_jobs((tmp_path / "out/job.sub").read_text(), 1, [*expected, "Requirements"], tmp_path)
    requirements = job.pop("Requirements")
    assert "HasContainer" in requirements
    assert "HasSandboxImage" in requirements
    assert job == expected


@pytest.fixture
def slurm() -> Iterator[Slurm]:
    with one_node_slurm() as system:
        yield system


def test_slurm_takes_the_script_and_runs_it(
    slurm: Slurm, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    line = ["--containerImage", str(image), "--exec", "cat data; echo x >hist.root; exit 3", "--outDS", "out"]
    lazyfs("prun", *line, "--extFile", "data", "--memory", "200", "--maxWalltime", "1", "--submit", "slurm")
    script = str(tmp_path / "out/job.sh")
    environment = {**slurm.environment, "PATH": os.environ["PATH"]}
    tested = subprocess.run(
        ["sbatch", "--test-only", script], env=environment, capture_output=True, text=True, check=False
    )
    assert tested.returncode == 0, tested.stderr
    assert "to start at" in tested.stderr
    waited = subprocess.run(
        ["sbatch", "--wait", "--parsable", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (waited.returncode, waited.stderr) == (3, "")  # the program's own code
    assert (tmp_path / "out/stdout").read_text() == "events\n"
    assert (tmp_path / "out/work/hist.root").read_text() == "x\n"
