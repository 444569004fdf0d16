"""docker: the program sees the whole image, and no container or image stays in the daemon. Also the command
lines of udocker and shifter."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from lazyfs.core.errors import UsageError
from lazyfs.runtimes import batch_job
from lazyfs.runtimes.docker import Docker, container_configuration
from lazyfs.runtimes.docker_api import DockerApi, DockerError
from lazyfs.runtimes.docker_root import docker_root
from lazyfs.runtimes.launch import Bind, Launch
from lazyfs.runtimes.protocol import Unfit
from lazyfs.runtimes.shifter import Shifter
from lazyfs.runtimes.udocker import Udocker
from tests.support.counts import count
from tests.support.docker import docker_daemon
from tests.support.open_paths import open_to_all
from tests.support.runtimes import lazyfs_of, run
from tests.support.until import until

SCRATCH = "/tmp/lazyfs-run-0"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes an image with merged /usr, whose /etc has a resolv.conf that is a link to nowhere."""
    root = tmp_path_factory.mktemp("docker") / "image"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/sbin").mkdir()
    (root / "etc").mkdir()
    (root / "opt").mkdir(mode=0o750)
    (root / "opt/own").write_text("of the image\n")
    (root / "etc/hosts").write_text("of the image\n")
    (root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    (root / "bin").symlink_to("usr/bin")
    (root / "sbin").symlink_to("usr/sbin")
    shutil.copy("/bin/busybox", root / "usr/bin/busybox")
    for name in ("sh", "cat", "ls", "sleep", "stat"):
        (root / "usr/bin" / name).symlink_to("busybox")
    open_to_all(root)
    return root


@pytest.fixture(scope="module")
def daemon() -> Iterator[str]:
    with docker_daemon() as path:
        yield path


def launch(image: Path, *binds: Bind, **fields: Any) -> Launch:
    return Launch(str(image), ("sh",), {"A": "1\n2"}, binds=binds, scratch=SCRATCH, **fields)


def test_names_are_bound_one_by_one_where_one_is_missing(image: Path) -> None:
    found = docker_root(launch(image, Bind("/usr", "/opt/software/usr", True), Bind("/var", "/a:b,c")))
    bound = {mount["Target"]: (mount["Source"], mount["ReadOnly"]) for mount in found.mounts}
    assert bound == {
        "/usr": (f"{image}/usr", True),
        "/opt/own": (f"{image}/opt/own", True),
        "/etc/hosts": (f"{image}/etc/hosts", True),
        "/opt/software/usr": ("/usr", True),
        "/a:b,c": ("/var", False),
    }
    with tarfile.open(fileobj=BytesIO(found.archive)) as archive:
        entries = {member.name: (member.type, member.linkname) for member in archive}
        assert archive.getmember("./opt").mode == 0o750
    links = {name: target for name, (kind, target) in entries.items() if kind == tarfile.SYMTYPE}
    assert links == {"./bin": "usr/bin", "./sbin": "usr/sbin"}
    assert set(entries) - set(links) == {".", "./etc", "./opt"}


def test_docker_makes_no_file_in_what_is_bound(image: Path, tmp_path: Path) -> None:
    for name in ("hosts", "hostname"):
        (tmp_path / name).touch()
    with pytest.raises(Unfit, match=r"docker would make /etc/resolv\.conf in it"):
        docker_root(launch(image, Bind(str(tmp_path), "/etc")))
    (tmp_path / "resolv.conf").touch()
    assert docker_root(launch(image, Bind(str(tmp_path), "/etc")))


def test_texts_are_no_options_and_devices_are_allowed(image: Path) -> None:
    start = launch(image, Bind("/dev/null", "/elsewhere"), network=False, user=(3, 4))
    body = container_configuration(start, docker_root(start), "name", "/bin/init")
    assert (body["User"], body["Env"], body["Cmd"]) == ("3:4", ["A=1\n2"], ["sh"])
    host = body["HostConfig"]
    assert (host["NetworkMode"], host["DeviceCgroupRules"]) == ("none", ["c 1:3 rwm"])
    assert (host["CapDrop"], host["ReadonlyRootfs"]) == (["ALL"], True)
    plan = Docker("/none.sock").plan(start)
    assert plan.options[-4:] == ("start", "--attach", "--interactive", "lazyfs-run-0")
    assert plan.command == ()


def test_a_batch_job_is_not_started_outside_its_control_group(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with pytest.raises(Unfit, match="Slurm could neither end nor limit it"):
        Docker().plan(launch(image))


def test_batch_systems_are_known_by_variable_and_by_group() -> None:
    assert batch_job.batch_system({"_CONDOR_SCRATCH_DIR": "/x"}, "") == "HTCondor"
    assert batch_job.batch_system({}, "0::/system.slice/slurmstepd.scope/job_3/step_0\n") == "Slurm"
    assert batch_job.batch_system({}, "4:memory:/htcondor/condor_pool_slot1_1\n") == "HTCondor"
    assert batch_job.batch_system({"PBS_JOBID": ""}, "0::/user.slice/user-1.slice\n") is None


def test_a_daemon_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DockerError, match=r"no docker daemon listens at .*/none; start dockerd"):
        DockerApi(str(tmp_path / "none")).version()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
        with pytest.raises(DockerError, match="no docker daemon listens"):
            DockerApi(str(tmp_path / "sock")).version()
        listener.listen()
        answer = b'HTTP/1.1 500 Oh\r\nContent-Length: 28\r\n\r\n{"message": "first\\nsecond"}'

        def serve() -> None:
            with listener.accept()[0] as line:
                line.recv(1 << 16)
                line.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(DockerError, match=r"^docker: first second$"):
            DockerApi(str(tmp_path / "sock")).version()
        thread.join()


@pytest.mark.root
def test_a_user_without_permission_is_told_so(image: Path, daemon: str) -> None:
    done = run([image, "--runtime", "docker", "--", "true"], user=65534)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"docker: user 65534 may not use {daemon}: only root and members of its group may" in line


@pytest.mark.root
def test_the_image_is_shown_whole(image: Path, daemon: str, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("a tool\n")
    script = "cat /opt/own /opt/a/b/tool; ls -d /sbin /run; stat -c %a /opt; cat /etc/resolv.conf >/dev/null"
    done = run(
        [image, "--runtime", "docker", "-B", f"{tmp_path}:/opt/a/b:ro", "--json", "--", "sh", "-c", script]
    )
    assert done.stdout == "of the image\na tool\n/sbin\n750\n"
    assert json.loads(done.stderr.splitlines()[-1])["exit_code"] == 0
    assert not (image / "opt/a").exists()
    assert _remains(daemon) == []


@pytest.mark.root
@pytest.mark.timeout(300)
def test_nothing_stays_with_the_daemon(image: Path, daemon: str) -> None:
    """`lazyfs run` is ended by signals at random moments. Afterwards the docker daemon has none of its
    containers and images."""
    moments = random.Random(7)
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP) * count(1, 30):
        command = [*lazyfs_of(None), "run", str(image), "--runtime", "docker", "--", "sleep", "1000"]
        with subprocess.Popen(command, env=dict(os.environ)) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(moments.uniform(0.1, 1.5))
            process.send_signal(number)
    until(lambda: _remains(daemon) == [], 30)


@pytest.mark.root
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_before_the_program_runs_ends_the_start(
    image: Path, daemon: str, tmp_path: Path, number: signal.Signals
) -> None:
    """Regression: the command `docker` passed the signal on to the container; there docker-init was not yet
    ready for it, and the program ran on. Here a script takes and loses the signal in the command's place."""
    script = tmp_path / "docker"
    script.write_text(
        f"""#!/bin/sh
case $3 in start) trap '' TERM HUP INT; touch {tmp_path}/ready; sleep 2 ;; esac
exec {shutil.which("docker")} "$@"
"""
    )
    script.chmod(0o755)
    result = tmp_path / "result"
    command = [*lazyfs_of(None), "run", str(image), "--runtime", "docker", "--result", str(result), "--"]
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run([*command, "sh", "-c", ":"], env=environment, check=True)  # tries the runtime, once
    (tmp_path / "ready").unlink()
    with subprocess.Popen([*command, "sleep", "30"], env=environment) as process:
        until((tmp_path / "ready").exists, 30)
        process.send_signal(number)
        assert process.wait(20) == 128 + number
    assert json.loads(result.read_text())["failed"] == "program"
    until(lambda: _remains(daemon) == [], 30)


@pytest.mark.parametrize(
    ("state", "starting"),
    [
        ({"StartedAt": "0001-01-01T00:00:00Z"}, True),
        ({"StartedAt": "2026-11-30T01:02:03Z", "Running": False, "Pid": 0}, False),
        ({"StartedAt": "2026-11-30T01:02:03Z", "Running": True, "Pid": os.getppid()}, False),
        ({"StartedAt": "2026-11-30T01:02:03Z", "Running": True, "Pid": (1 << 22) + 1}, True),
        (None, False),
    ],
    ids=["created", "ended", "runs", "docker-init has no child", "no answer"],
)
def test_a_program_that_has_ended_is_not_starting(
    state: dict[str, Any] | None, starting: bool, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a signal that comes late would take its exit code away."""

    def answer(_: DockerApi, name: str) -> dict[str, Any]:
        assert name == "lazyfs-run-0"
        if state is None:
            raise DockerError("no answer")
        return state

    monkeypatch.setattr(DockerApi, "state", answer)
    attendant = Docker("/none.sock").plan(launch(image)).attendant
    assert attendant is not None
    assert attendant.is_starting() is starting


@pytest.mark.root
def test_a_daemon_gone_in_mid_run_is_the_runtimes_failure(image: Path, daemon: str, tmp_path: Path) -> None:
    """The name of the daemon's socket is removed while the program runs."""
    name, result, settings = tmp_path / "docker.sock", tmp_path / "result", tmp_path / "run.toml"
    settings.write_text(f'[programs]\ndocker = "{name}"\n')
    name.symlink_to(daemon)
    command = [*lazyfs_of(None), "run", str(image), "--runtime", "docker", "--result", str(result), "--"]
    with subprocess.Popen(
        [*command, "sh", "-c", "echo ready; cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "LAZYFS_RUN_SETTINGS": str(settings)},
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        name.unlink()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 125
    assert said.splitlines()[-1] == f"lazyfs: no docker daemon listens at {name}; start dockerd"
    assert json.loads(result.read_text())["failed"] == "runtime"
    for container in _remains(daemon):
        DockerApi(daemon).remove(container)


def _remains(daemon: str) -> list[str]:
    docker = ["docker", "--host", f"unix://{daemon}"]
    found = []
    for command in (["ps", "--all", "--quiet"], ["images", "--all", "--quiet"]):
        done = subprocess.run([*docker, *command], capture_output=True, text=True, check=True)
        found += done.stdout.split()
    return found


def test_the_command_line_of_udocker(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UDOCKER_DEFAULT_EXECUTION_MODE", "F3")
    monkeypatch.setenv("UDOCKER_LOGLEVEL", "5")
    start = Launch(
        str(image), ("ls", "--help"), {"A": "x y"}, "/opt", (Bind(str(tmp_path), "/srv"),), scratch=SCRATCH
    )
    plan = Udocker().plan(start)
    assert plan.options == (
        *("udocker", "--quiet", "run", "--nobanner", "--nometa", f"--location={image}", "--env-file="),
        *("--workdir=/opt", "--volume=/tmp", f"--volume={tmp_path}:/srv", "--entrypoint=", "lazyfs"),
    )
    assert plan.command == ("ls", "--help")
    assert plan.paths == {"--env-file=": b"A=x y\n"}
    assert plan.environment["UDOCKER_DEFAULT_EXECUTION_MODE"] == "F3"
    assert "UDOCKER_LOGLEVEL" not in plan.environment
    with pytest.raises(Unfit, match="cannot keep it from being written to"):
        Udocker().plan(Launch(str(image), ("ls",), binds=(Bind(str(tmp_path), "/srv", True),)))


def test_the_command_line_of_shifter(image: Path, tmp_path: Path) -> None:
    binds = (Bind(str(tmp_path), "/opt", True),)
    start = Launch(str(image), ("ls", "--help"), {"A": "x y"}, "/opt", binds, scratch=SCRATCH)
    plan = Shifter().plan(start)
    assert plan.options == (
        *("shifter", f"--image=local:{image}", "--clearenv", "--env-file=", "--workdir=/opt"),
        *(f"--volume={tmp_path}:/opt:ro", "--"),
    )
    assert (plan.command, plan.paths) == (("ls", "--help"), {"--env-file=": b"A=x y\n"})
    with pytest.raises(Unfit, match="bind target /srv: shifter needs it in the image"):
        Shifter().plan(Launch(str(image), ("ls",), binds=(Bind(str(tmp_path), "/srv"),)))


@pytest.mark.parametrize("runtime", [Udocker(), Shifter()], ids=["udocker", "shifter"])
def test_they_are_given_the_places_of_binds_outer_ones_first(
    tmp_path: Path, runtime: Udocker | Shifter
) -> None:
    root, outer, inner = tmp_path / "image", tmp_path / "outer", tmp_path / "inner"
    for directory in (root / "mnt", outer / "data", inner):
        directory.mkdir(parents=True)
    (root / "data").symlink_to("/mnt/data")
    binds = (Bind(str(inner), "/data"), Bind(str(outer), "/mnt"))
    options = runtime.plan(Launch(str(root), ("ls",), binds=binds, scratch=SCRATCH)).options
    found = [word for word in options if word.startswith(f"--volume={tmp_path}")]
    assert found == [f"--volume={outer}:/mnt", f"--volume={inner}:/mnt/data"]


@pytest.mark.parametrize("runtime", [Udocker(), Shifter()], ids=["udocker", "shifter"])
def test_what_they_cannot_do_is_left_to_others(image: Path, runtime: Udocker | Shifter) -> None:
    for fields in ({"network": False}, {"user": (1, 1)}):
        with pytest.raises(Unfit, match="as the caller, with the machine's network"):
            runtime.plan(Launch(str(image), ("ls",), **fields))
    with pytest.raises(UsageError, match="no value of several lines"):
        runtime.plan(launch(image))


def test_an_options_file_is_handed_over_by_path(tmp_path: Path) -> None:
    """A stand-in for shifter prints the contents of the options file and its environment. The variable's
    value is only in the file, not among the arguments."""
    program = tmp_path / "shifter"
    program.write_text(
        '#!/bin/sh\nfor word; do case $word in --env-file=*) cat "${word#*=}";; esac; done; env\n'
    )
    program.chmod(0o755)
    image = tmp_path / "image"
    image.mkdir()
    runtime = Shifter(str(program))
    start = Launch(str(image), ("ls",), {"SECRET": "word"}, scratch=SCRATCH)
    script = (
        "import sys; from lazyfs.runtimes.shifter import Shifter; from lazyfs.runtimes.launch import Launch; "
        "r = Shifter(sys.argv[1]); p = r.plan(Launch(sys.argv[2], ('ls',), {'SECRET': 'word'})); "
        "sys.exit(r.read_end(r.start(p)).exit_code)"
    )
    done = subprocess.run(
        [*lazyfs_of(None)[:1], "-c", script, program, image], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[0] == "SECRET=word"
    assert "HOME=" not in done.stdout
    assert "word" not in " ".join(runtime.plan(start).options)
