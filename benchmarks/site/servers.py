"""The real servers that starts are recorded with, and that the validation counts at: nginx and squid with
logs, and the shipped settings of the proxies."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.startup.services import daemon

_SITE: Final = Path(__file__).parents[2] / "tools/site"


class LoggedServer:
    """A running server and its log."""

    def __init__(self, url: str, pid: int, log: Path) -> None:
        self.url = url
        self.pid = pid
        self.log = log

    def text(self) -> str:
        """Returns the log so far."""
        return self.log.read_text() if self.log.exists() else ""

    def cpu(self) -> float:
        """Returns the processor seconds of the server and its children so far."""
        total = 0
        for pid in (self.pid, *_children(self.pid)):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / 100


def _children(pid: int) -> list[int]:
    shown = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in shown.split()]


@contextmanager
def nginx(root: Path, work: Path, address: str, port: int) -> Iterator[LoggedServer]:
    """Runs the origin of the store in `root`, with the shipped rules for caches."""
    log, config = work / "origin.log", work / "origin.conf"
    shipped = (_SITE / "nginx/origin.conf").read_text()
    replaced = shipped.replace("listen 80 ", f"listen {address}:{port} ").replace(
        "access_log off;", f"access_log {log} timed;"
    )
    replaced = replaced.replace("root /srv/lazyfs/store;", f"root {root};")
    config.write_text(
        f"daemon off; user root; worker_processes 1; pid {work}/origin.pid;\n"
        "events { worker_connections 4096; }\n"
        "http { log_format timed '$msec $request_time $status $body_bytes_sent $request_uri';\n"
        f"  client_body_temp_path {work}/body; proxy_temp_path {work}/proxy; fastcgi_temp_path {work}/f;\n"
        f"  uwsgi_temp_path {work}/u; scgi_temp_path {work}/s;\n{replaced}\n}}\n"
    )
    command = ["nginx", "-p", str(work), "-e", str(work / "origin.error"), "-c", str(config)]
    with daemon(command, work / "origin.out", port, address) as process:
        yield LoggedServer(f"http://{address}:{port}", process.pid, log)


@contextmanager
def squid(work: Path, address: str, port: int) -> Iterator[LoggedServer]:
    """Runs a site's proxy with the shipped settings and an empty cache in memory."""
    work.mkdir(exist_ok=True)
    work.chmod(0o777)  # squid drops root for its own user
    log, config = work / "access.log", work / "squid.conf"
    config.write_text(
        f"http_port {address}:{port}\nacl everybody src all\nhttp_access allow everybody\n"
        f"cache_mem 512 MB\npid_filename {work}/squid.pid\nvisible_hostname site{port}\n"
        f"unique_hostname site{port}.invalid\nlogformat timed %ts.%03tu %Ss/%03>Hs %<st %<sh %ru\n"
        f"access_log stdio:{log} timed\ncache_log {work}/cache.log\ncache_store_log none\n"
        f"coredump_dir {work}\ninclude {_SITE}/squid/lazyfs.conf\n"
    )
    command = ["squid", "-N", "-n", f"site{port}", "-f", str(config)]
    try:
        with daemon(command, work / "squid.out", port, address) as process:
            yield LoggedServer(f"http://{address}:{port}", process.pid, log)
    finally:
        for segment in Path("/dev/shm").glob(f"site{port}-*"):
            segment.unlink(missing_ok=True)


def curl(urls: list[str], proxy: str | None = None) -> None:
    """Fetches URLs one after the other over one connection. Raises CalledProcessError if one fails."""
    config = "".join(f'url = "{url}"\noutput = "/dev/null"\n' for url in urls)
    command = ["curl", "--silent", "--fail", "--noproxy", "" if proxy else "*", "--config", "-"]
    command += ["--proxy", proxy] if proxy else []
    subprocess.run(command, input=config.encode(), check=True, timeout=300)


class Passed(NamedTuple):
    """One request in a squid's log."""

    result: str
    """squid's result code, such as TCP_HIT/200."""
    size: int
    """Bytes of the answer's body."""
    url: str


def squid_lines(text: str) -> list[Passed]:
    """Reads a squid's log, without what is no request of a client for a URL."""
    found = []
    for line in text.splitlines():
        _, result, size, head, url = line.split(" ", 4)
        if url.startswith("http://"):
            found.append(Passed(result, int(size) - int(head), url))
    return found


def run(*command: str) -> None:
    """Runs a command. Raises CalledProcessError if it fails."""
    subprocess.run(command, check=True, capture_output=True)
