"""A real nginx with the site's configuration, on a free port, with files of its own."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.support.daemons import SITE, Daemon
from tests.support.tls import Pair

_CONFIG = """
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
{user}
events {{ worker_connections 4096; }}
http {{
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    log_format seen "$status $request_uri";
    {server}
}}
"""


class Nginx(Daemon):
    """Base of the nginx servers: a shipped configuration file with its paths and ports replaced."""

    name = "nginx"

    def __init__(self, shipped: str, replace: dict[str, str], port: int | None = None) -> None:
        super().__init__()
        self.port = port or self.port
        directory = self.directory
        text = (SITE / "nginx" / shipped).read_text()
        replace = replace | {"access_log off;": f"access_log {directory}/access.log seen;"}
        for old, new in replace.items():
            assert old in text, f"{shipped} no longer has {old!r}"
            text = text.replace(old, new.replace("DIRECTORY", str(directory)))
        text, listens = re.subn(r"listen (80|443) ", f"listen 127.0.0.1:{self.port} ", text)
        assert listens == 1
        self._config = directory / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        self._config.write_text(_CONFIG.format(directory=directory, server=text, user=user))

    def command(self) -> Sequence[str | Path]:
        return ["nginx", "-c", self._config, "-e", self.directory / "error.log"]

    def counts(self, status: int = 200) -> Counter[str]:
        """Returns the number of requests answered so far with this status, by path."""
        log = self.directory / "access.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return Counter(path for code, path in map(str.split, lines) if int(code) == status)


class NginxOrigin(Nginx):
    """An origin that serves a store directory."""

    def __init__(self, store: Path) -> None:
        super().__init__("origin.conf", {"/srv/lazyfs/store": str(store)})


class TlsOrigin(Nginx):
    """An origin that serves a store directory over TLS. With `clients`, the file of a CA, it requires a
    client certificate signed by that CA."""

    def __init__(self, store: Path, pair: Pair, clients: Path | None = None, port: int | None = None) -> None:
        lines = ["server_name localhost;", f"ssl_certificate {pair.cert}; ssl_certificate_key {pair.key};"]
        if clients:
            lines.append(f"ssl_client_certificate {clients}; ssl_verify_client on;")
        super().__init__(
            "origin.conf",
            {
                "/srv/lazyfs/store": str(store),
                "backlog=4096;": "backlog=4096 ssl;",
                "server_name origin.example.org;": " ".join(lines),
            },
            port,
        )

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"


class NginxReverse(Nginx):
    """A reverse cache in front of an origin."""

    def __init__(self, origin_port: int) -> None:
        super().__init__(
            "reverse.conf",
            {
                "server origin.example.org:80": f"server 127.0.0.1:{origin_port}",
                "/var/cache/nginx/lazyfs": "DIRECTORY/cache",
            },
        )
