"""Prints as JSON what a program can see and do in a sandbox; see tests/runtimes/test_isolation.py.

Needs only the standard library. Reads facts from the machine, never from lazyfs.
"""

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
_MS_REMOUNT, _MS_BIND, _MS_RDONLY = 32, 4096, 1
_CLONE_NEWUSER, _CLONE_NEWNS, _CLONE_NEWCGROUP = 0x10000000, 0x00020000, 0x02000000
_KEYS = {"x86_64": (248, 249, 250), "aarch64": (217, 218, 219)}


def error(call: Callable[[], Any]) -> str:
    """Returns the name of the error that the call fails with, or `done` if it succeeds."""
    try:
        call()
    except OSError as failure:
        return errno.errorcode[failure.errno or 0]
    return "done"


def _checked(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "")


def write(path: str) -> str:
    return error(lambda: os.close(os.open(path, os.O_WRONLY)))


def create(path: str) -> str:
    return error(lambda: os.close(os.open(path, os.O_WRONLY | os.O_CREAT)))


def read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="replace")
    except OSError as failure:
        return errno.errorcode[failure.errno or 0]


def mount(source: str, target: str, fstype: str, flags: int = 0) -> str:
    arguments = (source.encode(), target.encode(), fstype.encode(), ctypes.c_ulong(flags), None)
    return error(lambda: _checked(_LIBC.mount(*arguments)))


def files_that_can_be_written(top: str) -> list[str]:
    """Returns the files below `top` that can be opened for writing. Writes nothing to them."""
    found = []
    for directory, _, names in os.walk(top):
        for name in names:
            path = os.path.join(directory, name)
            if not os.path.islink(path):
                with contextlib.suppress(OSError):
                    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
                    found.append(path)
    return found


def processes() -> list[str]:
    return sorted(name for name in os.listdir("/proc") if name.isdigit())


def abstract_socket(name: str) -> str:
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(5)
        return error(lambda: line.connect("\0" + name))


def _key_call(control: int, number: int) -> None:
    """Calls KEYCTL_READ for the key `number`."""
    _checked(_LIBC.syscall(control, 11, number, None, 0))


def key_calls(known: list[int]) -> dict[str, str]:
    """Tries to add, request and read kernel keys. Besides its own keyrings, it reads the keys with the
    numbers `known`. Returns call or number -> result."""
    add, request, control = _KEYS[os.uname().machine]
    answers = {
        "add": error(lambda: _checked(_LIBC.syscall(add, b"user", b"probe", b"x", ctypes.c_size_t(1), -3))),
        "request": error(lambda: _checked(_LIBC.syscall(request, b"user", b"lazyfs-probe", None, 0))),
    }
    for number in (-3, -4, -5, *known):
        answers[str(number)] = error(partial(_key_call, control, number))
    return answers


def push_into_terminal() -> dict[str, str]:
    """Tries to push input into a terminal. The terminal is made here and belongs to no session, so that only
    a system-call filter stops the call."""
    ours, theirs = os.openpty()
    answers = {
        "TIOCSTI": error(lambda: fcntl.ioctl(theirs, 0x5412, b"X")),
        "TIOCLINUX": error(lambda: fcntl.ioctl(theirs, 0x541C, b"\x03")),
        "controlling": error(lambda: os.close(os.open("/dev/tty", os.O_RDWR))),
    }
    os.close(ours)
    os.close(theirs)
    return answers


def namespaces() -> dict[str, str]:
    return {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")}


def in_a_child(call: Callable[[], Any]) -> Any:
    """Makes a call in a child process, because the call changes its process; returns the call's result."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, json.dumps(call()).encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as file:
        answer = file.read()
    os.wait()
    return json.loads(answer)


def with_a_namespace_of_its_own() -> dict[str, Any]:
    """Tries mounts and unmounts inside a new user namespace, which grants all capabilities. Returns call ->
    result."""
    made = error(lambda: _checked(_LIBC.unshare(_CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWCGROUP)))
    return {
        "made": made,
        "remount": mount("", "/ro", "", _MS_REMOUNT | _MS_BIND),
        "uncover": error(lambda: _checked(_LIBC.umount2(b"/proc/sys", 2))),
        "root": mount("", "/", "", _MS_REMOUNT | _MS_BIND),
        "cgroup": mount("none", "/tmp", "cgroup2"),
        "written": write("/proc/sys/kernel/core_pattern"),
    }


def main() -> None:
    given = json.loads(sys.argv[1])
    answers = {
        "identity": [os.getuid(), os.getgid(), os.getgroups()],
        "status": read("/proc/self/status"),
        "environ": dict(os.environ),
        "environments": {pid: read(f"/proc/{pid}/environ") for pid in processes()},
        "commands": {pid: read(f"/proc/{pid}/cmdline") for pid in processes()},
        "processes": processes(),
        "own": os.getpid(),
        "outside": error(lambda: os.kill(given["process"], 0)),
        "namespaces": namespaces(),
        "session": [os.getsid(0), os.getpid()],
        "descriptors": {name: os.readlink(f"/proc/self/fd/{name}") for name in ("0", "1", "2")},
        "more descriptors": [n for n in range(3, 200) if error(partial(os.fstat, n)) == "done"],
        "init": {n: write(f"/proc/1/fd/{n}") for n in range(3, 20)},
        "roots": {
            path: sorted(os.listdir(path)) for path in ("/", "/proc/1/root", "/proc/1/cwd", "/proc/self/cwd")
        },
        "tmp": sorted(os.listdir("/tmp")),
        "dev": sorted(os.listdir("/dev")),
        "shared memory": sorted(os.listdir("/dev/shm")),
        "created": {
            path: create(path) for path in ("/x", "/bin/x", "/etc/x", "/made/x", "/tmp/x", "/ro/x", "/rw/x")
        },
        "hosts": [write("/etc/resolv.conf"), write("/etc/hosts")],
        "proc": files_that_can_be_written("/proc/sys")
        + [
            path
            for name in os.listdir("/proc")
            if not name.isdigit() and name not in ("self", "thread-self", "sys", "net", "mounts")
            for path in (
                files_that_can_be_written(f"/proc/{name}")
                if os.path.isdir(f"/proc/{name}")
                else [f"/proc/{name}"]
            )
            if write(path) == "done"
        ],
        "proc contents": {
            name: read(f"/proc/{name}")[:10] for name in ("kcore", "keys", "kmsg", "kpagecount", "slabinfo")
        },
        "remount": {
            path: mount("", path, "", _MS_REMOUNT | _MS_BIND)
            for path in ("/", "/ro", "/etc/resolv.conf", "/proc/sys")
        },
        "mounted": {
            fstype: mount("none", "/tmp", fstype)
            for fstype in ("proc", "sysfs", "tmpfs", "cgroup2", "devpts")
        },
        "hostname": error(lambda: socket.sethostname("probe")),
        "node": error(lambda: os.mknod("/tmp/node", 0o20666, os.makedev(1, 11))),
        "owner": error(lambda: os.chown("/tmp/x", 1, 1)),
        "secret": read("/ro/secret"),
        "abstract": abstract_socket(given["socket"]),
        "interfaces": sorted(name for _, name in socket.if_nameindex()),
        "keys": key_calls(given["keys"]),
        "terminal": push_into_terminal(),
        "nested": in_a_child(with_a_namespace_of_its_own),
    }
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
