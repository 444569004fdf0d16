"""A real varnish with the site's configuration, on a free port, with files of its own."""

from collections.abc import Sequence
from pathlib import Path

from tests.support.daemons import SITE, Daemon


class Varnish(Daemon):
    """A reverse cache in front of an origin, in memory."""

    name = "varnish"

    def __init__(self, origin_port: int) -> None:
        super().__init__()
        text = (SITE / "varnish" / "lazyfs.vcl").read_text()
        for old, new in {
            "origin.example.org": "127.0.0.1",
            '.port = "80"': f'.port = "{origin_port}"',
        }.items():
            assert old in text, f"lazyfs.vcl no longer has {old!r}"
            text = text.replace(old, new)
        self._vcl = self.directory / "lazyfs.vcl"
        self._vcl.write_text(text)

    def command(self) -> Sequence[str | Path]:
        return [
            "varnishd", "-F", "-n", self.directory / "run", "-a", f"127.0.0.1:{self.port}",
            "-f", self._vcl, "-s", "malloc,64m", "-p", "default_grace=0",
        ]  # fmt: skip
