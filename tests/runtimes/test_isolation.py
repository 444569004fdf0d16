"""Tests every promise about isolation in docs/running.md with a probe inside the sandbox, which runs as the
caller and as another user.

The caller of the probe has everything that the program must not see: secrets in the environment and in kernel
keys, an abstract socket, open files, a process, a file.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lazyfs.system.detachment import can_scope_sockets
from tests.support import isolation_probe
from tests.support.busybox import busybox_root

SECRET = "hunter2-in-the-environment"
_CALLER = """
import ctypes, json, os, sys
libc = ctypes.CDLL(None)
keys = []
if sys.argv[1] == "keys":
    libc.syscall(250, 1, None)
    key = (b"user", b"lazyfs-probe", b"ticket", ctypes.c_size_t(6))
    keys = [libc.syscall(248, *key, ring) for ring in (-3, -4)]
    keys += [libc.syscall(250, 0, ring, 0) for ring in (-3, -4)]
arguments = [word.replace("KEYS", json.dumps(keys)) for word in sys.argv[2:]]
os.execv(arguments[0], arguments)
"""
"""Adds a key to a new session keyring and to the user's keyring, then becomes lazyfs; x86_64 only."""


class Sandbox:
    """One set of options to start the probe with, and the probe's image and directories."""

    def __init__(self, directory: Path, options: tuple[str, ...]) -> None:
        self.options = options
        self.directory = directory
        self.image = busybox_root(directory / "image", "sh")
        shutil.copy(isolation_probe.__file__, directory / "probe.py")
        for name in ("ro", "rw"):
            (directory / name).mkdir()
            (directory / name).chmod(0o777)
        (directory / "ro/secret").write_text("root's alone")
        (directory / "ro/secret").chmod(0o600)
        for place in (directory, *directory.parents):
            if place.stat().st_uid == os.getuid() and str(place) not in ("/", "/tmp"):
                place.chmod(place.stat().st_mode | 0o755)

    def argv(self, *more: str) -> list[str]:
        """Returns the command `lazyfs run` with the machine's Python bound into a small image."""
        libraries = [word for path in ("/usr", "/lib", "/lib64") for word in ("-B", f"{path}:{path}:ro")]
        binds = ["-B", f"{self.directory}/ro:/ro:ro", "-B", f"{self.directory}/rw:/rw"]
        binds += ["-B", f"{self.directory}/probe.py:/made/probe.py:ro"]
        return [
            sys.executable,
            "-m",
            "lazyfs",
            "run",
            str(self.image),
            *libraries,
            *binds,
            *self.options,
            *more,
        ]

    def probe(self, *more: str, keys: bool = False, **popen: Any) -> Any:
        """Runs the probe and returns its answers."""
        name = f"lazyfs-probe-{os.getpid()}"
        with socket.socket(socket.AF_UNIX) as listener, subprocess.Popen(["sleep", "1000"]) as outside:
            listener.bind("\0" + name)
            listener.listen()
            given = f'{{"process": {outside.pid}, "socket": "{name}", "keys": KEYS}}'
            command = [*self.argv(*more), "--", "/usr/bin/python3", "-I", "/made/probe.py", given]
            caller = [sys.executable, "-c", _CALLER, "keys" if keys else "none", *command]
            environment = {**os.environ, "AWS_SECRET_ACCESS_KEY": SECRET}
            try:
                done = subprocess.run(
                    caller, env=environment, capture_output=True, text=True, timeout=100, check=False, **popen
                )
            finally:
                outside.kill()
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


AS = {"caller": (), "another": ("--user", "65534:65534")}


@pytest.fixture(scope="module", params=["caller", pytest.param("another", marks=pytest.mark.root)])
def sandbox(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    return Sandbox(tmp_path_factory.mktemp("isolation"), AS[request.param])


@pytest.fixture(scope="module")
def seen(sandbox: Sandbox) -> Iterator[Any]:
    """Yields the probe's answers to a caller with open files and keys."""
    reading, writing = os.pipe()
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, reading)
        stack.callback(os.close, writing)
        os.set_inheritable(reading, True)
        yield sandbox.probe(keys=os.uname().machine == "x86_64", close_fds=False)


def status(seen: Any, field: str) -> str:
    lines = dict(line.split(":\t", 1) for line in seen["status"].splitlines() if ":\t" in line)
    return str(lines[field])


def test_the_root_and_read_only_binds_cannot_be_written(seen: Any) -> None:
    made = {path: answer for path, answer in seen["created"].items() if answer != "done"}
    assert made == dict.fromkeys(("/x", "/bin/x", "/etc/x", "/made/x", "/ro/x"), "EROFS")
    assert set(seen["created"]) - set(made) == {"/tmp/x", "/rw/x"}
    assert "done" not in seen["hosts"]


def test_nothing_read_only_can_be_remounted(seen: Any) -> None:
    assert set(seen["remount"].values()) == {"EPERM"}


def test_no_filesystem_can_be_mounted(seen: Any) -> None:
    assert set(seen["mounted"].values()) == {"EPERM"}


def test_tmp_is_empty_and_gone_at_the_end(sandbox: Sandbox, seen: Any) -> None:
    assert seen["tmp"] == []
    assert sandbox.probe()["tmp"] == []  # the first start wrote files there


def test_no_capability_is_left_and_none_can_be_had(seen: Any) -> None:
    for field in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert status(seen, field) == "0000000000000000", field
    assert status(seen, "NoNewPrivs") == "1"
    assert (seen["node"], seen["owner"], seen["hostname"]) == ("EPERM", "EINVAL", "EPERM")


def test_a_namespace_of_its_own_gives_the_program_nothing(seen: Any) -> None:
    nested = seen["nested"]
    assert "done" not in [answer for name, answer in nested.items() if name not in ("made", "cgroup")]
    if seen["identity"][0] == 0:
        assert nested["made"] != "done"
        assert nested["cgroup"] != "done"


def test_nothing_in_proc_that_is_the_machines_can_be_written(seen: Any) -> None:
    """Two kinds of files are allowed: the limits of the IPC and PID namespaces, which are the program's own,
    and the files that every user of the machine may write."""
    own = re.compile(
        r"/proc/sys/(fs/mqueue/.*|kernel/(auto_)?(msg|sem|shm)[a-z_]*|kernel/(ns_last_pid|pid_max))"
    )
    machines = [
        path for path in seen["proc"] if not own.fullmatch(path) and not os.stat(path).st_mode & 0o002
    ]
    assert machines == []
    assert seen["identity"][0] or not seen["proc"]


def test_what_proc_tells_root_alone_is_empty(seen: Any) -> None:
    assert all(
        content in ("", "EACCES", "ENOENT", "EPERM") or name == "keys"
        for name, content in seen["proc contents"].items()
    )
    if seen["identity"][0] == 0:
        assert seen["proc contents"]["keys"] == "EACCES"


def test_only_its_own_processes_are_seen_and_reached(seen: Any) -> None:
    assert seen["processes"] == ["1", str(seen["own"])]
    assert seen["outside"] == "ESRCH"


def test_every_namespace_but_the_network_is_its_own(seen: Any) -> None:
    host = {
        name: os.readlink(f"/proc/self/ns/{name}") for name in ("user", "pid", "ipc", "uts", "mnt", "net")
    }
    same = [name for name, number in host.items() if seen["namespaces"][name] == number]
    assert same == ["net"]


def test_only_what_is_bound_is_seen_from_any_root(seen: Any) -> None:
    expected = sorted(["bin", "dev", "etc", "lib", "lib64", "made", "proc", "ro", "rw", "tmp", "usr"])
    assert all(names == expected for names in seen["roots"].values())


def test_dev_has_no_device_of_the_machine(seen: Any) -> None:
    harmless = [
        "core",
        "fd",
        "full",
        "null",
        "ptmx",
        "pts",
        "random",
        "shm",
        "stderr",
        "stdin",
        "stdout",
        "tty",
        "urandom",
        "zero",
    ]
    assert seen["dev"] == harmless
    assert seen["shared memory"] == []


def test_the_environment_is_the_images_and_what_was_given(seen: Any) -> None:
    assert set(seen["environ"]) - {"LC_CTYPE"} == {"PATH", "HOME", "PWD"}
    everything = json.dumps([seen["environments"], seen["commands"]])
    assert SECRET not in everything
    assert "AWS_SECRET" not in everything


def test_no_descriptor_of_the_callers_is_open(seen: Any) -> None:
    assert seen["more descriptors"] == []
    assert "done" not in seen["init"].values()


def test_the_session_is_its_own_and_no_terminal_can_be_written_into(seen: Any) -> None:
    assert seen["session"][0] in (0, 1, seen["session"][1])
    assert seen["terminal"] == {"TIOCSTI": "EPERM", "TIOCLINUX": "EPERM", "controlling": "ENXIO"}


@pytest.mark.skipif(os.uname().machine not in isolation_probe._KEYS, reason="numbers of the calls not known")
def test_kernel_keys_are_out_of_reach_by_name_and_by_number(seen: Any) -> None:
    assert len(seen["keys"]) >= 5
    assert set(seen["keys"].values()) == {"ENOSYS"}


def test_abstract_sockets_are_out_of_reach_or_explain_says_so(sandbox: Sandbox, seen: Any) -> None:
    done = subprocess.run(
        sandbox.argv("--explain", "--json", "--", "true"), capture_output=True, text=True, check=True
    )
    said = any("abstract sockets" in line for line in json.loads(done.stdout)["reachable"])
    assert said == (seen["abstract"] != "EPERM")
    assert said != can_scope_sockets()


def test_without_network_there_is_none(sandbox: Sandbox) -> None:
    seen = sandbox.probe("--network", "none")
    assert seen["interfaces"] == ["lo"]
    assert seen["namespaces"]["net"] != os.readlink("/proc/self/ns/net")
    assert seen["abstract"] in ("EPERM", "ECONNREFUSED")


def test_the_program_is_who_it_was_started_as(sandbox: Sandbox, seen: Any) -> None:
    user = 65534 if sandbox.options else os.getuid()
    assert seen["identity"][0] == user
    assert seen["secret"] == ("root's alone" if user == os.getuid() else "EACCES")
    assert (sandbox.directory / "rw/x").stat().st_uid == user


@pytest.mark.root
def test_bound_devices_can_be_opened(sandbox: Sandbox) -> None:
    """A bound device can be opened for reading and writing. Regression: devices were bound with nodev."""
    script = "exec 5<>/dev/fuse && exec 6<>/elsewhere/zero && echo opened"
    binds = ("-B", "/dev/fuse", "-B", "/dev/zero:/elsewhere/zero")
    done = subprocess.run(
        sandbox.argv(*binds, "--", "sh", "-c", script),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("opened\n", "")
    done = subprocess.run(
        sandbox.argv("-B", "/dev/fuse::ro", "--", "true"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "a device cannot be bound read-only" in done.stderr


@pytest.mark.root
def test_a_users_program_can_start_a_sandbox_of_its_own_and_roots_cannot(sandbox: Sandbox) -> None:
    inner = ["/usr/bin/bwrap", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "--proc", "/proc"]
    command = sandbox.argv("--", *inner, "--dev", "/dev", "/bin/busybox", "echo", "nested")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if sandbox.options:
        assert (done.stdout, done.stderr) == ("nested\n", "")
    else:
        assert done.returncode != 0
        assert "namespace" in done.stderr


@pytest.mark.root
def test_a_set_user_id_file_gives_nothing(sandbox: Sandbox) -> None:
    program = sandbox.image / "bin/busybox-suid"
    shutil.copy("/bin/busybox", program)
    os.chown(program, 1234, 1234)
    program.chmod(0o6755)
    done = subprocess.run(
        sandbox.argv("--", "/bin/busybox-suid", "id", "-u"), capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{65534 if sandbox.options else 0}\n"


@pytest.mark.root
def test_a_killed_start_leaves_nothing_of_another_users(sandbox: Sandbox) -> None:
    script = "trap '' 1 2 15; echo ready; while :; do busybox sleep 1; done"
    with subprocess.Popen(sandbox.argv("--", "sh", "-c", script), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)
        assert process.stdout.read() == b""  # the program, if alive, would hold the pipe open


HOSTILE = {
    "resolver by init's root": {"etc/resolv.conf": "/proc/1/root/oldroot{made}"},
    "resolver by a working directory": {"etc/resolv.conf": "/proc/self/cwd/oldroot{made}"},
    "hosts by a descriptor": {"etc/hosts": "/proc/self/fd/3{made}"},
    "tmp by init's root": {"tmp": "/proc/1/root/oldroot{made}"},
    "tmp by its plain name": {"tmp": "/oldroot{made}"},
    "target by init's root": {"data": "/proc/1/root/oldroot{made}"},
    "target by its plain name": {"data": "/oldroot{made}"},
    "target upwards": {"data": "../../../oldroot{made}"},
    "dev": {"dev": "/oldroot{made}"},
    "proc": {"proc": "/oldroot{made}"},
    "etc": {"etc": "/oldroot{made}"},
}


@pytest.mark.parametrize("links", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("file", [False, True], ids=["directory", "file"])
def test_no_image_makes_anything_on_the_host(tmp_path: Path, links: dict[str, str], file: bool) -> None:
    """The image also contains the paths to which its links seem to lead, so that each target seems to
    exist."""
    image, host = tmp_path / "image", tmp_path / "host"
    host.mkdir()
    busybox_root(image)
    (image / "etc").mkdir()
    for name, pattern in links.items():
        target = pattern.format(made=f"{host}/made")
        pretended = Path(os.path.normpath(f"{image}/{target.removeprefix('../../..')}"))
        pretended.parent.mkdir(parents=True)
        pretended.touch() if file else pretended.mkdir()
        if (image / name).is_dir():
            (image / name).rmdir()
        (image / name).symlink_to(target)
    (tmp_path / "source").mkdir()
    (name,) = links
    inside = {"data": "/data/x", "tmp": "/tmp/y"}.get(name)
    for binds in ((), ("-B", f"{tmp_path}/source:{inside}"))[: 2 if inside else 1]:
        command = [sys.executable, "-m", "lazyfs", "run", str(image), *binds, "--", "/bin/busybox", "true"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert "Traceback" not in done.stderr
        assert os.listdir(host) == []
