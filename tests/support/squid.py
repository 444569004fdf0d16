"""A real squid with the site configuration, on a free port, with files of its own."""

from collections.abc import Sequence
from pathlib import Path

from tests.support.daemons import SITE, Daemon
from tests.support.tls import Pair

_CONFIG = """
{listen}
acl everybody src all
http_access allow everybody
cache_mem 128 MB
{parents}
pid_filename {directory}/squid.pid
access_log stdio:{directory}/access.log
cache_log {directory}/cache.log
cache_store_log none
coredump_dir {directory}
visible_hostname test.invalid
unique_hostname test{port}.invalid
include {site}/squid/lazyfs.conf
"""


class Squid(Daemon):
    """A squid that caches in memory, so that its cache is empty after a kill."""

    name = "squid"

    def __init__(self, *parents: "Squid", tls: Pair | None = None) -> None:
        """Prepares the server. It sends every request to the first of `parents` that is alive. With `tls`,
        clients connect to it over TLS."""
        super().__init__()
        self._tls = tls
        peers = [
            f"cache_peer 127.0.0.1 parent {parent.port} 0 no-query no-digest no-netdb-exchange "
            f"{'default' if index else ''} name=parent{index}"
            for index, parent in enumerate(parents)
        ]
        if peers:
            peers.append("never_direct allow all")
        self._config = self.directory / "squid.conf"
        self._config.write_text(
            _CONFIG.format(
                listen=self._listen(),
                port=self.port,
                parents="\n".join(peers),
                directory=self.directory,
                site=SITE,
            )
        )

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}" if self._tls else super().url

    def _listen(self) -> str:
        if self._tls is None:
            return f"http_port 127.0.0.1:{self.port}"
        return f"https_port 127.0.0.1:{self.port} tls-cert={self._tls.cert} tls-key={self._tls.key}"

    def command(self) -> Sequence[str | Path]:
        (self.directory / "squid.pid").unlink(missing_ok=True)
        # a service name of its own: squid keeps shared memory under it
        return ["squid", "-N", "-n", f"test{self.port}", "-f", self._config]

    def kill(self) -> None:
        """Kills the server and removes the shared memory that a killed squid leaves behind."""
        super().kill()
        for segment in Path("/dev/shm").glob(f"test{self.port}-*"):
            segment.unlink(missing_ok=True)

    def results(self) -> list[tuple[str, str]]:
        """Returns (squid's result code such as TCP_MISS/200, URL) for each request so far."""
        log = self.directory / "access.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [(fields[3], fields[6]) for fields in map(str.split, lines) if fields[6].startswith("http")]

    def tunnels(self) -> list[tuple[str, str]]:
        """Returns (squid's result code, HOST:PORT) of each CONNECT that has ended."""
        log = self.directory / "access.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [(fields[3], fields[6]) for fields in map(str.split, lines) if fields[5] == "CONNECT"]


class ShippedSquid(Squid):
    """A squid with the access rules of the shipped squid.conf, in which the example hosts and ports are
    replaced."""

    def __init__(self, *, origin: str, tls_port: int) -> None:
        """Prepares the server. `origin` is the only host that clients may reach; `tls_port` replaces 443."""
        super().__init__()
        text = (SITE / "squid" / "squid.conf").read_text()
        changes = {
            "http_port 3128": self._listen(),
            "dstdomain origin.example.org origin2.example.org": f"dstdomain {origin}",
            "src 10.0.0.0/8": "src 127.0.0.0/8 10.0.0.0/8",
            "port 443": f"port {tls_port}",
            "cache_mem 4096 MB": "cache_mem 128 MB",
            "cache_dir aufs /var/spool/squid 200000 64 256": "",
            "include /etc/squid/lazyfs.conf": "",
        }
        for old, new in changes.items():
            assert old in text, f"squid.conf no longer has {old!r}"
            text = text.replace(old, new)
        _, _, rest = self._config.read_text().partition("cache_mem 128 MB\n")
        self._config.write_text(f"{text}\n{rest}")
