"""Jobs from Python: the examples of Ganga's manual, with images from mounts, directories and files."""

import asyncio
import json
import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.jobs import Apptainer, Auto, Bubblewrap, File, Job, JobResult, Singularity
from tests.support.runtimes import search_path


@pytest.fixture(autouse=True)
def own_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the results of jobs without output_directory below pytest's directory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def image(tmp_path: Path) -> str:
    root = tmp_path / "image"
    (root / "bin").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "etc/redhat-release").write_text("Fedora release 40\n")
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for name in ("sh", "cat", "ls", "touch", "mkdir", "ln", "mkfifo"):
        (root / "bin" / name).symlink_to("busybox")
    return str(root)


def text(path: str) -> str:
    return Path(path).read_text()


def script(directory: Path, content: str) -> File:
    path = directory / "run.sh"
    path.write_text(f"#!/bin/sh\n{content}\n")
    return File(str(path))


def test_a_program_of_the_image_with_arguments(image: str) -> None:
    """Job(virtualization=..., application=Executable(exe='cat', args=['/etc/redhat-release']))"""
    result = Auto(image).run(Job("cat", ["/etc/redhat-release"]))
    assert (result.exit_code, result.failure, text(result.stdout)) == (0, None, "Fedora release 40\n")
    assert result.runtime == "bubblewrap"
    assert set(result.seconds) == {"prepare", "run", "total"}
    assert result.seconds["total"] >= result.seconds["run"] > 0


def test_an_executable_and_inputs_are_carried_in_and_outputs_out(image: str, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("data")
    program = script(tmp_path, 'cat data.txt >histogram.root; mkdir plots; echo "$1" >plots/a.pdf; pwd')
    out = tmp_path / "results"
    job = Job(
        program, ["two words"], [File(str(tmp_path / "data.txt"))], ["*.root", "plots", "none"], str(out)
    )
    result = Bubblewrap(image).run(job)
    assert text(result.stdout) == "/work_dir\n"
    assert result.outputs == {"histogram.root": f"{out}/histogram.root", "plots": f"{out}/plots"}
    assert (out / "histogram.root").read_text() == "data"
    assert (out / "plots/a.pdf").read_text() == "two words\n"
    assert not (out / "data.txt").exists()


def test_mounts_and_a_missing_one_is_a_warning_of_the_job(image: str, tmp_path: Path) -> None:
    """j.virtualization.mounts = {'/cvmfs': '/cvmfs'}"""
    (tmp_path / "software").mkdir()
    (tmp_path / "software/tool").write_text("a tool\n")
    (tmp_path / "wallet").write_text("a wallet\n")
    mounts = {
        str(tmp_path / "software"): "/cvmfs",
        str(tmp_path / "wallet"): "/etc/wallet",
        f"{tmp_path}/none": "/none",
    }
    result = Auto(image, mounts=mounts).run(Job("cat", ["/cvmfs/tool", "/etc/wallet"]))
    assert text(result.stdout) == "a tool\na wallet\n"
    assert f"bind source {tmp_path}/none does not exist on this machine; it is left out" in text(
        result.stderr
    )
    assert result.failure is None


def test_no_home_is_there_and_variables_are(image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLERS", "hidden")
    job = Job("sh", ["-c", 'echo "$TOKEN,$CALLERS,$HOME"; ls /'], environment={"TOKEN": "hunter2"})
    result = Auto(image).run(job)
    assert text(result.stdout).splitlines()[0] == "hunter2,,/tmp"
    assert "root" not in text(result.stdout).split()
    assert "hunter2" not in " ".join(Auto(image).command(job, ".", "result"))


@pytest.mark.root
@pytest.mark.parametrize("virtualization", [Apptainer, Singularity])
def test_a_runtime_by_name_and_options_of_a_queue(
    image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, virtualization: type[Apptainer]
) -> None:
    monkeypatch.setenv("PATH", search_path())
    (tmp_path / "lustre_2").mkdir()
    options = f"-B {tmp_path}/lustre_2 --contain --ipc"
    result = virtualization(image, options=options).run(Job("ls", [str(tmp_path)]))
    assert (result.runtime, text(result.stdout)) == ("apptainer", "lustre_2\n")


@pytest.mark.parametrize(
    ("container", "job", "failure", "code"),
    [
        ({}, Job("sh", ["-c", "exit 9"]), "program", 9),
        ({}, Job("none"), "program", 127),
        ({"image": "/none"}, Job("sh"), "image", 2),
        ({"options": "--pwd /none"}, Job("sh"), "request", 125),
        ({"mounts": {"/usr": "/proc/1/root"}}, Job("sh"), "request", 2),
    ],
)
def test_whose_failure_it_was(
    image: str, container: dict[str, object], job: Job, failure: str, code: int
) -> None:
    result = Auto(**{"image": image, "mounts": {}, **container}).run(job)  # type: ignore[arg-type]
    assert (result.failure, result.exit_code) == (failure, code)
    assert (result.error is None) == (code != 2)


def test_a_machine_without_a_runtime_is_at_fault(
    image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "settings").write_text('runtimes = ["bubblewrap"]\n[programs]\nbubblewrap = "/bin/false"\n')
    monkeypatch.setenv("LAZYFS_RUN_SETTINGS", str(tmp_path / "settings"))
    result = Auto(image).run(Job("sh"))
    assert (result.failure, result.exit_code) == ("runtime", 2)
    assert result.error is not None
    assert "no usable runtime on this machine: bubblewrap" in result.error


def test_outputs_follow_no_link_and_wait_for_no_pipe(image: str, tmp_path: Path) -> None:
    program = script(tmp_path, "ln -s /etc/passwd stolen; mkfifo pipe; mkdir d; mkfifo d/pipe; touch d/file")
    result = Auto(image).run(Job(program, outputs=["stolen", "pipe", "d"]))
    assert set(result.outputs) == {"stolen", "d"}
    assert os.readlink(result.outputs["stolen"]) == "/etc/passwd"
    assert os.listdir(result.outputs["d"]) == ["file"]
    leading_out = Job(script(tmp_path, "ln -s / out"), outputs=["out/etc/hostname"])
    with pytest.raises(UsageError, match="output 'out/etc/hostname' leads out of the job's directory"):
        Auto(image).run(leading_out)


def test_hooks_run_on_this_machine_before_and_after(image: str) -> None:
    """Fermi sends mail at the start and end of a job, through the machine's own mail program."""
    told: list[str] = []

    def after(job: Job, result: JobResult) -> None:
        told.append(f"after {job.executable}: {result.exit_code}")

    Auto(image, before=lambda job: told.append(f"before {job.executable}"), after=after).run(
        Job("sh", ["-c", "exit 2"])
    )
    assert told == ["before sh", "after sh: 2"]


def test_jobs_run_side_by_side_from_an_asynchronous_program(image: str) -> None:
    async def both() -> list[JobResult]:
        jobs = [Job("sh", ["-c", f"echo {number}"]) for number in range(3)]
        return await asyncio.gather(*(asyncio.to_thread(Auto(image).run, job) for job in jobs))

    assert [text(result.stdout) for result in asyncio.run(both())] == ["0\n", "1\n", "2\n"]


def test_a_file_that_is_missing_is_said(image: str) -> None:
    with pytest.raises(UsageError, match=r"file of the job /none/run\.sh: No such file"):
        Auto(image).run(Job(File("/none/run.sh")))


def test_an_executable_needs_no_execute_bit(image: str, tmp_path: Path) -> None:
    program = script(tmp_path, "exit 3")
    assert not os.stat(program.path).st_mode & stat.S_IXUSR
    assert Auto(image).run(Job(program)).exit_code == 3
    assert json.loads(json.dumps(program)) == [program.path]
