"""The real servers that images come from: registry, nginx, squid, and the relay in front of them."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.ports import free_ports
from tools.relay.counts import Counts

_CHECKOUT: Final = Path(__file__).parents[2]
_READY_SECONDS: Final = 30


class Line(msgspec.Struct, frozen=True):
    """The network line between a site and the origin."""

    rtt_ms: float
    mbit: float

    def __str__(self) -> str:
        return f"{self.rtt_ms:g} ms, {self.mbit:g} Mbit/s"


@contextmanager
def daemon(
    command: Sequence[str], log: Path, port: int, address: str = "127.0.0.1"
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a server that stays in the foreground, for the block. Yields its process once `port` of `address`
    accepts connections. Raises RuntimeError if the server ends before that, or takes too long."""
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            _wait_for(port, process, log, address)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path, address: str) -> None:
    end = time.monotonic() + _READY_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} exited {process.returncode}: {log.read_text()[-2000:]}")
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((address, port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} opened no port {port} in {_READY_SECONDS} s")


@contextmanager
def registry(work: Path) -> Iterator[int]:
    """Runs Debian's docker-registry 2.8, with its blobs on disk and a cache in memory; yields its port."""
    port, debug = free_ports(2)
    config = work / "registry.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{cache: {{blobdescriptor: inmemory}}, filesystem: {{rootdirectory: {work}/registry}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}', debug: {{addr: '127.0.0.1:{debug}'}}}}\n"
    )
    with daemon(["docker-registry", "serve", str(config)], work / "registry.log", port):
        yield port


@contextmanager
def nginx(root: Path, work: Path) -> Iterator[int]:
    """Runs a static web server over `root`; yields its port."""
    (port,) = free_ports(1)
    config = work / "nginx.conf"
    config.write_text(
        f"daemon off; user root; worker_processes 1; pid {work}/nginx.pid; error_log {work}/nginx.error;\n"
        "events { worker_connections 1024; }\n"
        "http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;\n"
        f"  client_body_temp_path {work}/nginx-body; proxy_temp_path {work}/nginx-proxy;\n"
        f"  server {{ listen 127.0.0.1:{port} backlog=1024; root {root};\n"
        "    location ~ /data/ { add_header Cache-Control 'public, max-age=31536000, immutable'; }\n"
        "    location / { add_header Cache-Control 'public, max-age=60'; } } }\n"
    )
    command = ["nginx", "-p", str(work), "-e", str(work / "nginx.error"), "-c", str(config)]
    with daemon(command, work / "nginx.log", port):
        yield port


@contextmanager
def squid(work: Path) -> Iterator[int]:
    """Runs a site's forward proxy with an empty cache, which has room in memory and on disk for a whole
    image. Yields its port."""
    (port,) = free_ports(1)
    home = work / "squid"
    home.mkdir()
    home.chmod(0o777)  # squid drops root for its own user
    config = home / "squid.conf"
    config.write_text(
        f"http_port 127.0.0.1:{port}\nhttp_access allow all\npinger_enable off\nvisible_hostname site\n"
        f"pid_filename {home}/squid.pid\ncache_log {home}/cache.log\naccess_log none\ncoredump_dir {home}\n"
        f"cache_mem 1024 MB\nmaximum_object_size_in_memory 16 MB\nmaximum_object_size 64 MB\n"
        f"cache_dir ufs {home}/cache 4096 16 256\nshutdown_lifetime 1 seconds\nnetdb_filename none\n"
    )
    subprocess.run(["squid", "-z", "-N", "-f", str(config)], check=True, capture_output=True)
    with daemon(["squid", "-N", "-f", str(config)], work / "squid.log", port):
        yield port


class Relayed:
    """A running relay."""

    def __init__(self, counts_port: int, ports: dict[int, int]) -> None:
        self._counts_port = counts_port
        self._ports = ports

    def port(self, origin_port: int) -> int:
        """Returns the relay's port for the server that listens on `origin_port`."""
        return self._ports[origin_port]

    def counts(self) -> Counts:
        """Returns the counts of the traffic so far."""
        with socket.create_connection(("127.0.0.1", self._counts_port), timeout=10) as asked:
            return Counts(**json.loads(asked.makefile().readline()))


@contextmanager
def relay(line: Line, origin_ports: Sequence[int], work: Path) -> Iterator[Relayed]:
    """Runs `python -m tools.relay` in front of all these servers, which share the relay's bottleneck."""
    counts_port, *listen = free_ports(1 + len(origin_ports))
    ports = dict(zip(origin_ports, listen, strict=True))
    command = [
        *(sys.executable, "-m", "tools.relay", "--rtt-ms", str(line.rtt_ms), "--mbit", str(line.mbit)),
        *("--counts", f"127.0.0.1:{counts_port}"),
    ]
    for origin, port in ports.items():
        command += ["--forward", f"127.0.0.1:{port}=127.0.0.1:{origin}"]
    log = work / "relay.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output, cwd=_CHECKOUT)
    with process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != b"ready\n":
                raise RuntimeError(f"the relay did not start: {log.read_text()[-2000:]}")
            yield Relayed(counts_port, ports)
        finally:
            process.terminate()
            process.wait(timeout=10)
