"""The file of `--result`: what the program leaves under its name is replaced and never followed, a bad path
is refused before the program runs, and pipes and open descriptors take a result too."""

import json
import os
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.runtimes import result_file
from lazyfs.runtimes.result_file import ResultFile
from tests.support.busybox import busybox_root
from tests.support.cli import LAZYFS
from tests.support.processes import run as run_any
from tests.support.runtimes import run


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return busybox_root(tmp_path / "image", "sh", "ln", "mv", "mkdir", "rm")


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Returns a file of the caller's that no program may change."""
    path = tmp_path / "victim"
    path.write_text("precious")
    return path


def chosen(path: Path) -> ResultFile:
    return ResultFile(str(path), f"--result {path}")


LEFT = ["ln -s {victim} end.json", "rm -f end.json; ln -s {victim} end.json", "ln -s none end.json"]


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize("left", LEFT)
def test_a_link_that_the_program_leaves_is_replaced(
    image: Path, victim: Path, tmp_path: Path, left: str, is_there: bool
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    if is_there:
        (work / "end.json").write_text("of an earlier run")
    command = ["--work", f"{work}:/srv", "--result", f"{work}/end.json", "--", "sh", "-c"]
    done = run([image, *command, left.format(victim=victim)])
    assert (victim.read_text(), done.stderr.replace("ln: end.json: File exists\n", "")) == ("precious", "")
    assert json.loads((work / "end.json").read_text())["exit_code"] == done.returncode
    assert not (work / "end.json").is_symlink()
    assert os.listdir(work) == ["end.json"]


def test_a_directory_on_the_way_is_held_from_before_the_start(image: Path, tmp_path: Path) -> None:
    work, victims = tmp_path / "work", tmp_path / "victims"
    (work / "results").mkdir(parents=True)
    victims.mkdir()
    left = f"mv results moved; ln -s {victims} results"
    command = ["--work", f"{work}:/srv", "--result", f"{work}/results/end.json", "--", "sh", "-c", left]
    assert run([image, *command]).returncode == 0
    assert os.listdir(victims) == []
    assert json.loads((work / "moved/end.json").read_text())["exit_code"] == 0


@pytest.mark.parametrize(
    "path", ["/nonexistent/x", "/proc/x", "{}/image", "{}/victim/x", "/dev/fd/77", "{}/"]
)
def test_a_path_that_cannot_be_written_is_refused_before_the_start(
    image: Path, victim: Path, tmp_path: Path, path: str
) -> None:
    path = path.format(tmp_path)
    work = ["--work", f"{tmp_path}:/srv"]
    done = run([image, "--result", path, *work, "--", "sh", "-c", "mkdir started; exit 3"])
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"--result {path}: " in done.stderr
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(("code", "ends_with"), [(3, 3), (0, 1)])
def test_a_result_that_cannot_be_written_after_all_takes_no_exit_code_away(
    image: Path, tmp_path: Path, code: int, ends_with: int
) -> None:
    """A directory is in the way."""
    work = ["--work", f"{tmp_path}:/srv", "--result", f"{tmp_path}/end.json"]
    done = run([image, *work, "--", "sh", "-c", f"mkdir -p end.json/x; exit {code}"])
    assert done.returncode == ends_with
    assert done.stderr == f"lazyfs: --result {tmp_path}/end.json: Is a directory\n"
    done = run([tmp_path / "none", *work[2:], "--", "sh"])
    assert done.returncode == 2
    assert "--result" in done.stderr


def test_what_is_refused_before_the_image_is_looked_for_is_in_the_result_too(
    image: Path, tmp_path: Path
) -> None:
    done = run([image, "--result", tmp_path / "end.json", "-B", "a:b:c:d", "--", "sh"])
    found = json.loads((tmp_path / "end.json").read_text())
    assert (found["failed"], found["exit_code"], done.returncode) == ("request", 2, 2)
    assert found["error"] in done.stderr


def test_a_result_in_the_working_directory_by_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ResultFile("end.json", "--result end.json").write("{}")
    assert (tmp_path / "end.json").read_text() == "{}\n"
    assert os.listdir(tmp_path) == ["end.json"]


@pytest.mark.parametrize("given", ["/dev/stdout", "/dev/fd/3", ">(cat)"])
@pytest.mark.parametrize("to", ["| cat", ">out"])
def test_open_descriptors_and_substituted_processes(image: Path, tmp_path: Path, given: str, to: str) -> None:
    """What the program has written to the same file stays."""
    start = f"{shlex.join([*LAZYFS, 'run', str(image)])} --result {given} -- sh -c 'echo ran'"
    script = f"{{ exec 3>&1; {start}; wait $!; }} {to}; [ ! -f out ] || cat out"
    done = run_any("bash", "-c", script, cwd=tmp_path, check=True)
    ran, document = done.stdout.splitlines()
    assert (ran, json.loads(document)["exit_code"], done.stderr) == (b"ran", 0, b"")


def test_a_named_pipe_gets_the_result_once_it_has_a_reader(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    file = chosen(pipe)
    writing = threading.Thread(target=file.write, args=["{}"])
    writing.start()
    assert pipe.read_text() == "{}\n"
    writing.join()


def test_a_named_pipe_without_a_reader_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_file, "READER_SECONDS", 0.1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match=r"--result .*pipe: nobody has read it for 0.1 s"):
        chosen(tmp_path / "pipe").write("{}")


def test_a_named_pipe_that_was_there_is_written_to_although_something_else_has_its_name(
    tmp_path: Path, victim: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    file = chosen(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    pipe.unlink()
    pipe.symlink_to(victim)
    file.write("{}")
    assert (os.read(reader, 10), victim.read_text()) == (b"{}\n", "precious")
    os.close(reader)


def test_the_result_is_whole_under_its_name_or_not_there(tmp_path: Path) -> None:
    """A disk that is full in the middle of a result leaves the earlier one."""
    code = """
import os, resource, sys
from lazyfs.core.errors import UsageError
from lazyfs.runtimes.result_file import ResultFile
file = ResultFile(sys.argv[1], "--result")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    file.write("x" * 2000)
except UsageError as error:
    print(error)
"""
    path = tmp_path / "end.json"
    path.write_text("earlier")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert (done.stdout, path.read_text(), os.listdir(tmp_path)) == (
        "--result: File too large\n", "earlier", ["end.json"],
    )  # fmt: skip


@pytest.mark.root
def test_a_single_file_that_is_mounted_is_written_in_place(tmp_path: Path) -> None:
    """As with `docker run -v "$PWD/end.json:/end.json"`: nothing can be renamed to it."""
    for name in ("outside", "inside"):
        (tmp_path / name).write_text("earlier, and longer")
    use = "from lazyfs.runtimes.result_file import ResultFile; ResultFile(sys.argv[1], '').write('{}')"
    script = 'mount --bind "$1/outside" "$1/inside" && exec "$2" -c "$3" "$1/inside"'
    command = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
        str(tmp_path),
        sys.executable,
        f"import sys; {use}",
    ]
    run_any(*command, check=True)
    assert (tmp_path / "outside").read_text() == "{}\n"
    assert (tmp_path / "inside").read_text() == "earlier, and longer"
    assert sorted(os.listdir(tmp_path)) == ["inside", "outside"]
