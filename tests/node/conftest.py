"""Fixtures: a published repository, settings, and a runtime directory for each test, whose mounts are removed
at the end."""

from pathlib import Path

import pytest

from lazyfs.daemon.wanted_settings import WantedSettings, wanted_settings
from tests.daemon.conftest import published, runtime
from tests.support.doctor import Config

__all__ = ["published", "runtime"]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Returns a function that writes a settings file and returns the settings read from it. `lines` are lines
    of TOML at its end, `fields` replace or add settings. The cache is small."""

    def of(*lines: str, **fields: str) -> WantedSettings:
        given = {
            "source": "http://127.0.0.1:9/x",
            "cache": f"{tmp_path}/cache",
            "cache_limit": "64M",
        } | fields
        path = tmp_path / "site.toml"
        path.touch(mode=0o600)
        path.write_text("".join(f'{name} = "{value}"\n' for name, value in given.items()) + "\n".join(lines))
        return wanted_settings([str(tmp_path / "mnt")], str(path), {})

    return of
