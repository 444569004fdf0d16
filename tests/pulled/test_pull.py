"""The names under which pulled images are kept: one for each platform."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from lazyfs.core.oci.platform import parse_platform
from lazyfs.images.sources.open import ImageOptions
from lazyfs.pulled import pull
from lazyfs.pulled.image_store import ImageStore
from lazyfs.pulled.pull import Pull


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(str(tmp_path / "store"), 1 << 30)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Puts a registry in place that has an image for each platform. Returns the platforms that it was asked
    for."""
    found: list[str] = []

    @contextmanager
    def opened(_: str, options: ImageOptions) -> Iterator[SimpleNamespace]:
        found.append(str(options.platform))
        manifest = str(options.platform).encode()
        yield SimpleNamespace(manifest=manifest, config_bytes=b"{}", layers=[], notes=[])

    monkeypatch.setattr(pull, "open_image", opened)
    monkeypatch.setattr(pull, "unpack", lambda *_: None)
    return found


def test_each_platform_has_its_own_image(store: ImageStore, asked: list[str]) -> None:
    def pulled(platform: str, *, always: bool = False) -> str:
        options = ImageOptions(parse_platform(platform), platform_asked=True)
        own = parse_platform("amd64")
        found = Pull(store, options, lambda _: None, always, own)("docker://app")
        assert found.metadata is not None
        return Path(found.metadata, "manifest.json").read_text()

    for platform in ("linux/arm64", "linux/amd64", "linux/arm/v7", "linux/arm64", "linux/amd64"):
        assert pulled(platform) == platform
    assert asked == ["linux/arm64", "linux/amd64", "linux/arm/v7"]
    kept = store.named("docker://app")  # the name that was always this machine's own
    assert kept is not None
    assert Path(kept.directory, "manifest.json").read_text() == "linux/amd64"
    assert pulled("linux/arm64", always=True) == "linux/arm64"
    assert pulled("linux/amd64") == "linux/amd64"
    assert asked[3:] == ["linux/arm64"]
