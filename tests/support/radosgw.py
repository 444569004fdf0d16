"""A real S3 server: Ceph's radosgw with one monitor and one in-memory disk.

It takes seconds to start and 200 MB, so all test processes of a run share it. The first process starts it,
and the last one to leave stops it.
"""

import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks.ports import free_ports

READY_SECONDS = 90.0
_CONF = """
[global]
fsid = {fsid}
mon initial members = a
mon host = [v2:127.0.0.1:{mon2},v1:127.0.0.1:{mon1}]
auth cluster required = none
auth service required = none
auth client required = none
ms bind ipv6 = false
ms mon client mode = crc
public network = 127.0.0.0/8
run dir = {directory}
admin socket = {directory}/$name.asok
log file = {directory}/$name.log
pid file =
keyring = {directory}/keyring
mon data = {directory}/mon
osd data = {directory}/osd
mon data avail warn = 1
mon data avail crit = 1
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 2000
paxos propose interval = 0.02
paxos min wait = 0.01
osd objectstore = memstore
memstore device bytes = 2147483648
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd heartbeat grace = 600
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw thread pool size = 64
rgw enable usage log = false
rgw enable gc threads = false
rgw run sync thread = false
rgw dynamic resharding = false
"""


class Account(NamedTuple):
    """A user of the server."""

    access_key: str
    secret: str

    @property
    def environment(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret}


class Radosgw(msgspec.Struct):
    """A running server."""

    directory: str
    port: int
    pids: list[int]
    account: Account

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def admin(self, *words: str) -> str:
        """Runs radosgw-admin, which takes about two seconds; returns its output."""
        return _run(self.directory, "radosgw-admin", "-n", "client.rgw", *words)

    def create_account(self, name: str) -> Account:
        """Makes a user with a key pair."""
        account = Account(secrets.token_hex(10).upper(), secrets.token_hex(20))
        keys = [f"--access-key={account.access_key}", f"--secret-key={account.secret}"]
        self.admin("user", "create", f"--uid={name}", f"--display-name={name}", *keys)
        return account

    def add_key(self, name: str) -> Account:
        """Gives a user an additional key pair, and returns it."""
        account = Account(secrets.token_hex(10).upper(), secrets.token_hex(20))
        keys = [f"--access-key={account.access_key}", f"--secret-key={account.secret}"]
        self.admin("key", "create", f"--uid={name}", "--key-type=s3", *keys)
        return account


def _run(directory: str, *words: str) -> str:
    done = subprocess.run(
        [words[0], "-c", f"{directory}/ceph.conf", *words[1:]], capture_output=True, timeout=60, check=False
    )
    if done.returncode:
        raise AssertionError(f"{words}: {done.stderr.decode(errors='replace')[-2000:]}")
    return done.stdout.decode()


def _start(directory: Path) -> Radosgw:
    port, mon1, mon2 = free_ports(3)
    fsid = str(uuid.uuid4())
    place = str(directory)
    for part in ("mon", "osd"):
        (directory / part).mkdir()
    conf = _CONF.format(fsid=fsid, mon1=mon1, mon2=mon2, port=port, directory=place)
    (directory / "ceph.conf").write_text(conf)
    subprocess.run(
        [
            "ceph-authtool",
            "--create-keyring",
            f"{place}/keyring",
            "--gen-key",
            "-n",
            "mon.",
            "--cap",
            "mon",
            "allow *",
        ],
        check=True,
        capture_output=True,
    )
    monitors = f"{place}/monitors"
    addresses = f"[v2:127.0.0.1:{mon2},v1:127.0.0.1:{mon1}]"
    _run(place, "monmaptool", "--create", "--fsid", fsid, "--addv", "a", addresses, monitors)
    _run(place, "ceph-mon", "--mkfs", "-i", "a", "--monmap", monitors, "--keyring", f"{place}/keyring")
    pids = [_spawn(directory, "ceph-mon", "-i", "a", "-f")]
    try:
        _run(place, "ceph", "--connect-timeout", "30", "osd", "new", osd := str(uuid.uuid4()))
        _run(place, "ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        pids.append(_spawn(directory, "ceph-osd", "-i", "0", "-f"))
        pids.append(_spawn(directory, "radosgw", "-n", "client.rgw", "-f"))
        _wait_for(port, directory)
        server = Radosgw(place, port, pids, Account("", ""))
        server.account = server.create_account("lazyfs")
    except BaseException:
        _end(pids, directory)
        raise
    return server


def _end(pids: list[int], directory: Path) -> None:
    for pid in reversed(pids):
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
    shutil.rmtree(directory, ignore_errors=True)


def _spawn(directory: Path, name: str, *words: str) -> int:
    """Starts a server in a new session, since another process of the test run may have to stop it. Returns
    its process id."""
    null = os.open(os.devnull, os.O_RDONLY)
    output = os.open(directory / f"{name}.output", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return os.posix_spawnp(
            name,
            [name, "-c", f"{directory}/ceph.conf", *words],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, *pair) for pair in ((null, 0), (output, 1), (output, 2))],
            setsid=True,
        )
    finally:
        os.close(null)
        os.close(output)


def _wait_for(port: int, directory: Path) -> None:
    end = time.monotonic() + READY_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > end:
                texts = [file.read_text(errors="replace")[-500:] for file in directory.glob("*.output")]
                raise AssertionError(f"radosgw does not come up: {texts}") from None
        time.sleep(0.1)


@contextmanager
def radosgw(shared: Path) -> Iterator[Radosgw]:
    """Yields the server of this test run. `shared` is a directory common to all test processes of the run."""
    state, lock = shared / "radosgw.json", shared / "radosgw.lock"
    with _locked(lock):
        kept = json.loads(state.read_bytes()) if state.exists() else {"users": 0}
        if not kept["users"]:
            directory = Path(f"/tmp/lazyfs-rgw-{secrets.token_hex(4)}")
            directory.mkdir(mode=0o700)
            kept["server"] = msgspec.to_builtins(_start(directory))
        kept["users"] += 1
        state.write_text(json.dumps(kept))
    server = msgspec.convert(kept["server"], Radosgw)
    try:
        yield server
    finally:
        with _locked(lock):
            kept = json.loads(state.read_bytes())
            kept["users"] -= 1
            state.write_text(json.dumps(kept))
            if not kept["users"]:
                _end(server.pids, Path(server.directory))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
