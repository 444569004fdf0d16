"""The names under which pulled images are kept: one for each platform, and none with a secret in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.ports import free_port
from lazyfs.core.errors import LazyfsError
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


SECRET = "word"
ADDRESS = f"https://me:{SECRET}@localhost:{{}}/image.sif?X-Amz-Signature={SECRET}"


def test_nothing_written_or_said_has_a_secret_of_the_address(store: ImageStore, tmp_path: Path) -> None:
    said: list[str] = []
    address, port = ADDRESS, free_port()
    with pytest.raises(LazyfsError, match=f"https://localhost:{port}: .*refused") as caught:
        Pull(store, ImageOptions(parse_platform("amd64")), said.append)(address.format(port))
    assert said == [f"https://localhost:{port}/image.sif is not on this machine: pulling it"]
    assert SECRET not in str(caught.value)
    store.add(lambda _: "key", private=lambda: True)
    store.name(address.format(port), "key")
    assert store.named(address.format(port)) is not None
    assert store.named(address.format(port).replace(SECRET, "other")) is None
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert any("localhost" in path.read_text() for path in files)
    assert not [path for path in files if SECRET in path.read_text() + path.name]
