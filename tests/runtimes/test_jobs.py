"""Jobs from Python: the examples of Ganga's manual, with images from mounts, directories and files."""

import asyncio
import base64
import json
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest
import trio

from lazyfs.core.errors import UsageError
from lazyfs.runtimes.jobs import (
    Apptainer,
    Auto,
    Bubblewrap,
    Docker,
    File,
    Job,
    JobResult,
    Link,
    OutputsNotCopied,
    Singularity,
)
from tests.support.runtimes import search_path
from tests.support.until import until


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
    for name in ("sh", "cat", "ls", "touch", "mkdir", "ln", "mkfifo", "rm"):
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


def test_a_jobs_variables_are_not_those_of_lazyfs_itself(image: str, tmp_path: Path) -> None:
    """Each would end lazyfs, or make it run something meant for the image, on this machine."""
    names = ("PYTHONHOME", "PYTHONPATH", "LD_PRELOAD", "LAZYFS_RUN_SETTINGS", "TMPDIR", "PATH")
    variables = dict.fromkeys(names, f"{tmp_path}/in-the-image")
    result = Auto(image, mounts={}).run(Job("/bin/sh", ["-c", "export -p"], environment=variables))
    assert (result.exit_code, result.error, text(result.stderr)) == (0, None, "")
    seen = text(result.stdout).splitlines()
    assert {f"export {name}='{value}'" for name, value in variables.items()} <= set(seen)


def test_a_variable_has_any_value_and_is_neither_argument_nor_variable_of_lazyfs(
    image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job("sh", ["-c", 'printf %s "$TOKEN"'], environment={"TOKEN": f"{SECRET}\n=" + "x" * 100_000})
    result = Auto(image).run(job)
    assert text(result.stdout) == job.environment["TOKEN"]
    with pytest.raises(UsageError, match=r"^variable 'TOKEN': its value has a NUL in it$"):
        Auto(image).run(replace(job, environment={"TOKEN": f"{SECRET}\0LD_PRELOAD=x"}))
    monkeypatch.setattr("lazyfs.runtimes.jobs.LAZYFS", ("/bin/sh", "-c", 'echo "$*"; env', "sh"))
    seen = text(Auto(image).run(job).stdout)
    assert seen.startswith("run ")
    assert SECRET not in seen


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


def test_outputs_that_cannot_be_copied_are_kept_and_the_others_come_out(image: str, tmp_path: Path) -> None:
    """The hook after the job is called all the same, and the account's file is not kept."""
    told: list[JobResult] = []
    container = Auto(image, tokenuser="me", tokenpassword=SECRET, after=lambda _, result: told.append(result))
    program = script(tmp_path, "echo mine >stdout; echo a >a.root; exit 3")
    with pytest.raises(OutputsNotCopied) as raised:
        container.run(Job(program, outputs=["*t", "*.root"], output_directory=str(tmp_path / "out")))
    result = raised.value.result
    assert (told, result.exit_code, set(result.outputs)) == ([result], 3, {"a.root"})
    assert result.kept is not None
    assert str(raised.value) == (
        "output 'stdout' cannot be copied: a file of lazyfs's own has this name; "
        f"the job's files are kept in {result.kept}"
    )
    assert text(f"{result.kept}/stdout") == "mine\n"
    assert os.listdir(f"{result.kept}/..") == ["work"]
    assert stat.S_IMODE(os.stat(f"{result.kept}/..").st_mode) == 0o700


def test_a_later_job_writes_through_no_link_of_an_earlier_one(image: str, tmp_path: Path) -> None:
    (tmp_path / "victims").mkdir()
    (tmp_path / "victims/file").write_text("precious")
    out = tmp_path / "out"
    out.mkdir()
    links = {"a": "victims/file", "d": "victims", "/out/stdout": "victims/new"}
    left = "; ".join(f"ln -s {tmp_path}/{target} {name}" for name, target in links.items())
    job = Job(script(tmp_path, f"rm /out/stdout; {left}"), outputs=["a", "d"], output_directory=str(out))
    Auto(image, mounts={str(out): "/out"}).run(job)
    assert (out / "stdout").is_symlink()
    later = script(tmp_path, "echo 1; echo 2 >a; mkdir d; echo 3 >d/file")
    result = Auto(image).run(replace(job, executable=later, outputs=["a", "d/file"]))
    assert [text(path) for path in (result.stdout, *result.outputs.values())] == ["1\n", "2\n", "3\n"]
    assert os.listdir(tmp_path / "victims") == ["file"]
    assert text(f"{tmp_path}/victims/file") == "precious"


@pytest.mark.parametrize("place", ["/proc/x", "{}/run.sh", "{}/run.sh/x"])
def test_a_directory_for_results_that_cannot_be_made_is_refused_before_the_start(
    image: str, tmp_path: Path, place: str
) -> None:
    place = place.format(tmp_path)
    container = Auto(image, mounts={str(tmp_path): "/out"})
    with pytest.raises(UsageError, match=f"output directory {place}: "):
        container.run(Job(script(tmp_path, "touch /out/started"), output_directory=place))
    assert not (tmp_path / "started").exists()


def test_nothing_is_left_of_directories_nested_deeper_than_python_calls(image: str, tmp_path: Path) -> None:
    job = Job("mkdir", ["-p", "/".join(["n"] * 1500)], output_directory=str(tmp_path / "out"))
    assert Auto(image).run(job).exit_code == 0
    assert not list(tmp_path.glob("lazyfs-work-*"))


def test_two_files_of_one_name_are_refused_and_one_may_be_given_twice(image: str, tmp_path: Path) -> None:
    program = script(tmp_path, "exit 5")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/run.sh").touch()
    assert Auto(image).run(Job(program, inputs=[Path(program.path), program])).exit_code == 5
    for link in (Link("run.sh", "/x"), File(f"{tmp_path}/d/run.sh")):
        with pytest.raises(UsageError, match=r"run\.sh: another file of the job has its name; rename one"):
            Auto(image).run(Job(program, inputs=[link]))


@pytest.mark.parametrize("argument", ["a\0b", "x" * 200_000])
def test_an_argument_that_no_program_can_get_is_refused(image: str, argument: str) -> None:
    with pytest.raises(UsageError, match="argument: "):
        Auto(image).run(Job("sh", [argument]))


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


def test_paths_directories_and_links_are_carried_in(image: str, tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("#!/bin/sh\ncat config/a linked\n")
    (tmp_path / "config").mkdir()
    (tmp_path / "config/a").write_text("in a directory\n")
    (tmp_path / "config/a").chmod(0o600)
    os.mkfifo(tmp_path / "config/pipe")
    job = Job(tmp_path / "run.sh", inputs=[tmp_path / "config", Link("linked", "config/a")])
    result = Auto(image).run(job)
    assert text(result.stdout) == "in a directory\n" * 2, text(result.stderr)


GIVEN: list[Callable[[Path], File | Path | IO[bytes]]] = [
    lambda path: File(str(path)),
    lambda path: path,
    lambda path: path.open("rb"),
]


@pytest.mark.root
@pytest.mark.parametrize("given", GIVEN)
def test_an_image_file_is_given_as_a_file_object(
    tmp_path: Path,
    image: str,
    monkeypatch: pytest.MonkeyPatch,
    given: Callable[[Path], File | Path | IO[bytes]],
) -> None:
    """imagefile = SharedFile('myimage.sif', ...); j.virtualization = Singularity(image=imagefile)"""
    monkeypatch.setenv("PATH", search_path())
    built = Path("/tmp/lazyfs-test-jobs.sif")
    if not built.exists():
        fresh = tmp_path / "fresh.sif"
        command = ["apptainer", "--silent", "build", str(fresh), image]
        subprocess.run(command, check=True, env={**os.environ, "APPTAINER_TMPDIR": str(tmp_path)})
        fresh.rename(built)
    file = given(built)
    result = Singularity(image=file).run(Job("cat", ["/etc/redhat-release"]))
    if not isinstance(file, File | Path):
        file.close()
    assert (text(result.stdout), result.runtime) == ("Fedora release 40\n", "apptainer"), text(result.stderr)


def test_an_open_file_without_a_name_is_refused(tmp_path: Path) -> None:
    with (
        tempfile.TemporaryFile(dir=tmp_path) as file,
        pytest.raises(UsageError, match="has no name any more"),
    ):
        Singularity(image=file).run(Job("cat"))


def test_what_singularity_hub_had_is_refused_with_a_reason() -> None:
    """j.virtualization = Singularity("shub://image:tag")"""
    result = Singularity("shub://image:tag").run(Job("cat"))
    assert (result.exit_code, result.failure) == (2, "image")
    assert result.error is not None
    assert "shub://image:tag: nothing is run from shub://" in result.error


SECRET = "gftrh84dgel-245^ghHH"


def test_a_token_is_handed_on_in_a_file_of_the_users_own(
    image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """j.virtualization.tokenuser = 'gitlab+deploy-token-123'. A stand-in for Python shows the arguments,
    environment and auth file with which lazyfs is started."""
    spy = tmp_path / "python"
    spy.write_text(
        '#!/bin/sh\nstat -c "%a %u" "$REGISTRY_AUTH_FILE"; cat "$REGISTRY_AUTH_FILE"; echo; echo "$*"; env\n'
    )
    spy.chmod(0o755)
    monkeypatch.setattr("lazyfs.runtimes.jobs.LAZYFS", (str(spy),))
    container = Singularity("docker://gitlab-registry.cern.ch/lhcb-core/lbdocker/centos7-build:v3")
    container.tokenuser, container.tokenpassword = "gitlab+deploy-token-123", SECRET
    result = container.run(Job("cat"))
    mode, document, *seen = text(result.stdout).splitlines()
    assert mode == f"600 {os.getuid()}"
    auth = base64.b64encode(f"gitlab+deploy-token-123:{SECRET}".encode()).decode()
    assert json.loads(document) == {"auths": {"gitlab-registry.cern.ch": {"auth": auth}}}
    assert not [line for line in seen if SECRET in line or auth in line]
    (kept,) = [line for line in seen if line.startswith("REGISTRY_AUTH_FILE=")]
    assert not os.path.exists(kept.partition("=")[2])
    container.tokenpassword = None
    with pytest.raises(UsageError, match="give tokenuser and tokenpassword"):
        container.run(Job("cat"))


def test_the_program_gets_no_token(image: str) -> None:
    container = Auto(image, tokenuser="gitlab+deploy-token-123", tokenpassword=SECRET)
    result = container.run(Job("sh", ["-c", "set; cat /proc/*/environ /proc/*/cmdline; ls -a"]))
    written = text(result.stdout) + text(result.stderr)
    assert "PATH=" in written
    assert SECRET not in written
    assert "REGISTRY_AUTH_FILE" not in written


def test_docker_is_taken_if_it_may_be_and_udocker_otherwise(
    image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docker is tried before udocker, as in Ganga. If neither works, the error gives the reasons of both. The
    execution mode is set in udocker's environment, not in the program's."""
    container = Docker(image)
    container.mode = "F3"
    monkeypatch.setenv("LAZYFS_RUN_SETTINGS", str(tmp_path / "run.toml"))
    (tmp_path / "run.toml").write_text(
        f'[programs]\ndocker = "{tmp_path}/docker"\nudocker = "{tmp_path}/udocker"\n'
    )
    result = container.run(Job("cat"))
    assert (result.failure, result.runtime) == ("runtime", None)
    assert result.error is not None
    assert result.error.index("docker: ") < result.error.index("udocker: ")
    assert container.settings() == {"UDOCKER_DEFAULT_EXECUTION_MODE": "F3"}
    command = container.command(Job("cat"), str(tmp_path), "result")
    assert command[command.index("--runtime") + 1] == "docker,udocker"
    assert Docker(image).settings() == {}


def test_the_first_of_several_runtimes_that_works_is_taken(image: str) -> None:
    class Either(Auto):
        runtimes = ("udocker", "bubblewrap")

    assert Either(image).run(Job("sh", ["-c", "exit 4"])).runtime == "bubblewrap"


async def test_jobs_run_below_trio(image: str) -> None:
    results: dict[int, JobResult] = {}

    async def one(number: int) -> None:
        results[number] = await Auto(image).run_async(Job("sh", ["-c", f"echo {number}; exit {number}"]))

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(one, number)
    assert [(text(results[n].stdout), results[n].exit_code) for n in range(3)] == [
        ("0\n", 0),
        ("1\n", 1),
        ("2\n", 2),
    ]
    assert results[2].failure == "program"


async def test_a_cancelled_job_is_asked_to_end(image: str, tmp_path: Path) -> None:
    """The program gets SIGTERM and has time to clean up."""
    (tmp_path / "out").mkdir()
    script = "trap 'echo got >/out/end; exit 0' TERM; echo x >/out/ready; while :; do sleep 0.05; done"
    container = Auto(image, mounts={str(tmp_path / "out"): "/out"})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(container.run_async, Job("sh", ["-c", script]))
        await trio.to_thread.run_sync(until, (tmp_path / "out/ready").exists)
        nursery.cancel_scope.cancel()
    assert (tmp_path / "out/end").read_text() == "got\n"


def test_a_hook_that_fails_keeps_the_job_from_starting(image: str, tmp_path: Path) -> None:
    def before(job: Job) -> None:
        raise RuntimeError("no mail daemon")

    out = tmp_path / "results"
    with pytest.raises(RuntimeError, match="no mail daemon"):
        Auto(image, before=before).run(Job("sh", output_directory=str(out)))
    assert not out.exists()
