"""Images are read by other processes: the published tree does not depend on which processes read, and no
layer is read twice."""

from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from lazyfs.sync.dask_workers import dask_workers
from tests.support.cli import lazyfs
from tests.support.counts import count
from tests.support.dask_cluster import DaskCluster, dask_cluster
from tests.support.many_images import IMAGES, Site, assert_each_layer_read_once, put_images
from tests.support.registry import RealRegistry


@pytest.fixture(scope="module")
def registry(real: RealRegistry) -> RealRegistry:
    put_images(real)
    return real


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with dask_cluster(tmp_path_factory.mktemp("dask"), count(3, 8)) as cluster:
        yield cluster


@contextmanager
def dask(cluster: DaskCluster, store: str) -> Iterator[Executor]:
    with dask_workers(cluster.address, store) as workers:
        assert workers is not None
        yield workers.executor


@pytest.mark.timeout(count(120, 900))
def test_the_root_is_the_same_whoever_reads_and_no_layer_is_read_twice(
    new: Path, registry: RealRegistry, cluster: DaskCluster, tmp_path: Path
) -> None:
    roots = set()
    alone = Site(new, tmp_path / "alone", registry)
    assert alone.sync(None).count("published") == IMAGES
    roots.add(alone.root)

    for processes in (1, 2, 8)[1 - count(0, 1) : count(2, 3)]:
        registry.blobs_read()
        site = Site(new, tmp_path / f"processes{processes}", registry)
        with ProcessPoolExecutor(processes) as executor:
            assert site.sync(executor).count("published") == IMAGES
        assert_each_layer_read_once(registry)
        roots.add(site.root)

    for workers in (1, 2)[: count(0, 2)]:
        registry.blobs_read()
        site = Site(new, tmp_path / f"workers{workers}", registry)
        (tmp_path / f"dask{workers}").mkdir()
        with (
            dask_cluster(tmp_path / f"dask{workers}", workers) as few,
            dask(few, site.store) as executor,
        ):
            assert site.sync(executor).count("published") == IMAGES
        assert_each_layer_read_once(registry)
        roots.add(site.root)

    registry.blobs_read()
    site = Site(new, tmp_path / "dask", registry)
    with dask(cluster, site.store) as executor:
        assert site.sync(executor).count("published") == IMAGES
    assert_each_layer_read_once(registry)
    roots.add(site.root)
    assert len(roots) == 1


def test_the_command_has_images_read_by_dask(
    new: Path, registry: RealRegistry, cluster: DaskCluster, tmp_path: Path
) -> None:
    site = Site(new, tmp_path / "site", registry)
    done = lazyfs(
        "sync", site.list, site.store, "--keys", site.directory / "keys", "--dask", cluster.address,
        "--config", site.configuration, "--status-dir", tmp_path / "status",
    )  # fmt: skip
    assert f"{IMAGES} published" in done.stdout
    lazyfs("check", site.store)
    none = lazyfs(
        "sync", site.list, site.store, "--keys", site.directory / "keys", "--dask", "tcp://127.0.0.1:1",
        "--config", site.configuration, "--status-dir", tmp_path / "other", check=False,
    )  # fmt: skip
    assert (none.returncode, none.stderr.count("\n")) == (2, 1)
    assert "--dask tcp://127.0.0.1:1: no scheduler answers there" in none.stderr
