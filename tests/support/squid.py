"""A real squid with the site configuration, on a free port, with files of its own."""

from collections.abc import Sequence
from pathlib import Path

from tests.support.daemons import SITE, Daemon

_CONFIG = """
http_port 127.0.0.1:{port}
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
    """Caches in memory: a squid that was killed comes back empty."""

    name = "squid"

    def __init__(self, *parents: "Squid") -> None:
        """With `parents`, everything is asked of them (the first that lives)."""
        super().__init__()
        peers = [
            f"cache_peer 127.0.0.1 parent {parent.port} 0 no-query no-digest no-netdb-exchange "
            f"{'default' if index else ''} name=parent{index}"
            for index, parent in enumerate(parents)
        ]
        if peers:
            peers.append("never_direct allow all")
        self._config = self.directory / "squid.conf"
        self._config.write_text(
            _CONFIG.format(port=self.port, parents="\n".join(peers), directory=self.directory, site=SITE)
        )

    def command(self) -> Sequence[str | Path]:
        (self.directory / "squid.pid").unlink(missing_ok=True)
        # a service name of its own: squid keeps shared memory under it
        return ["squid", "-N", "-n", f"test{self.port}", "-f", self._config]

    def kill(self) -> None:
        """A killed squid leaves its shared memory behind."""
        super().kill()
        for segment in Path("/dev/shm").glob(f"test{self.port}-*"):
            segment.unlink(missing_ok=True)

    def results(self) -> list[tuple[str, str]]:
        """(squid's result code such as TCP_MISS/200, URL) of each request so far."""
        log = self.directory / "access.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [(fields[3], fields[6]) for fields in map(str.split, lines) if fields[6].startswith("http")]
