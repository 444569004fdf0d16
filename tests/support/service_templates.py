"""The templates of tools/service run with all their paths moved below a test's directory."""

import os
from pathlib import Path

from tests.support.cli import LAZYFS, lazyfs
from tests.support.registry import RealRegistry
from tests.support.service import built

TEMPLATES = Path(__file__).parents[2] / "tools/service"
PLACE = "registry.example.org/physics/analysis:1"


class Machine:
    """The folders of a service, with a wishlist, a configuration and a new repository."""

    def __init__(self, directory: Path, registry: RealRegistry) -> None:
        self.directory = directory
        self.store = directory / "srv/lazyfs/store"
        self.status = directory / "var/lib/lazyfs/status"
        self.config = directory / "etc/lazyfs/service.toml"
        self.wishlists = directory / "etc/lazyfs/wishlists"
        for path in (self.store.parent, self.status.parent, self.wishlists, self.bin):
            path.mkdir(parents=True)
        self.config.write_text(
            f'[registries."registry.example.org"]\naddress = "{registry.host}"\nplain-http = true\n'
        )
        registry.put(built("analysis"), "physics/analysis", "1")
        (self.wishlists / "physics.yaml").write_text(f"lazyfs: 1\nimages:\n  - {PLACE}\n")
        (self.bin / "lazyfs").write_text(f'#!/bin/sh\nexec {" ".join(LAZYFS)} "$@"\n')
        (self.bin / "lazyfs").chmod(0o755)
        self.environment = {
            **os.environ,
            "HOME": str(directory / "var/lib/lazyfs"),
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "PYTHONPATH": f"{TEMPLATES.parents[1]}:{TEMPLATES.parents[1] / 'cache'}",
        }
        self.lazyfs("repo", "init", self.store, "--name", "unpacked.example.org")

    @property
    def keys(self) -> Path:
        """The folder of the repository's keys."""
        return self.directory / "var/lib/lazyfs/.config/lazyfs/keys/unpacked.example.org"

    @property
    def bin(self) -> Path:
        """The directory of the lazyfs command, which is first on PATH."""
        return self.directory / "usr/local/bin"

    def lazyfs(self, *arguments: str | Path, check: bool = True) -> str:
        """Runs the command with the environment of the service's account; returns its output and error
        messages."""
        done = lazyfs(*arguments, check=check, env=self.environment, cwd=self.directory)
        return done.stdout + done.stderr

    def here(self, text: str) -> str:
        """Returns a template's text with its paths moved below this directory."""
        for name in ("/usr/local/bin", "/etc/lazyfs", "/srv/lazyfs", "/var/lib/lazyfs"):
            text = text.replace(name, f"{self.directory}{name}")
        return text

    def published(self) -> bool:
        """Returns True if the tree has the wished image."""
        answer = self.lazyfs("when", PLACE, self.store, "--status-dir", self.status, check=False)
        return answer.startswith(f"{PLACE}: published\n")
