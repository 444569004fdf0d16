"""The stores of the startup benchmark are kept from one run to the next, and made anew when they are out of
date."""

import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks.startup import origin, stores
from benchmarks.startup.images import TAG, BenchmarkImage
from tests.support.oci_images import Built, entry, layer


@pytest.fixture
def image(tmp_path: Path) -> BenchmarkImage:
    layout = Built([layer(entry("hello", data=b"hello\n"))]).write_layout(tmp_path / "image/layout", TAG)
    return BenchmarkImage("small", str(layout), entries=1, unpacked_bytes=6, compressed_bytes=6, layers=1)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    kept = tmp_path / "kept"
    kept.mkdir()
    monkeypatch.setattr(stores, "kept_directory", lambda: kept)
    monkeypatch.setattr(origin, "OTHERS", 1)
    return kept


def provide(files: Path, image: BenchmarkImage) -> Path:
    files.mkdir()
    return stores.provide(files, "store", [image], small=image, profiled=[], python=sys.executable)


def test_a_store_is_made_once_and_stands_complete_in_each_run(
    tmp_path: Path, image: BenchmarkImage, kept: Path
) -> None:
    roots = [provide(tmp_path / run, image) for run in ("first", "second")]
    assert [root.is_file() for root in roots] == [True, True]
    assert roots[0].samefile(roots[1])
    assert len(list(kept.iterdir())) == 1
    second = tmp_path / "second/store"
    origin.publish_image(image, second, next(kept.iterdir()) / "keys", "another")
    published = sorted(path.name for path in (tmp_path / "first/store/metadata").iterdir())
    assert published == sorted(
        path.name for path in (next(kept.glob("stores-*")) / "store/metadata").iterdir()
    )
    assert published != sorted(path.name for path in (second / "metadata").iterdir())


def test_a_store_is_made_anew_by_another_lazyfs_and_before_its_signature_expires(
    tmp_path: Path, image: BenchmarkImage, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "KEPT", 1)
    first = provide(tmp_path / "first", image)
    (made,) = kept.iterdir()
    old = time.time() - (stores.DAYS + 1) * 86400
    os.utime(made, (old, old))
    assert not provide(tmp_path / "second", image).samefile(first)
    monkeypatch.setattr(stores, "_code", lambda _: "another lazyfs")
    provide(tmp_path / "third", image)
    assert len(list(kept.iterdir())) == 1
    assert made not in list(kept.iterdir())
