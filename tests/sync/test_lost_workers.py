"""Some images kill the Dask worker that reads them. Only these images fail, not those that the same worker
had at that time, even if several images kill workers."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from lazyfs.sync.dask_workers import dask_workers
from lazyfs.sync.shared_lock import SharedLock
from tests.support.cli import lazyfs, new_repository
from tests.support.dask_cluster import DaskCluster, dask_cluster
from tests.support.many_images import Site
from tests.support.registry import real_registry
from tests.support.service import built
from tests.support.until import until

IMAGES = 6
KILLERS = (1, 4)


def read_or_die(met: Path, number: int, work: Callable[..., Any], *arguments: Any) -> Any:
    """Runs in a Dask worker for one image. At the first try it waits until the worker has all images; then
    one of them kills the worker. At the second try an image in KILLERS kills its worker, and any other image
    is read."""
    if not (met / str(number)).exists():
        (met / str(number)).touch()
        until(lambda: len(list(met.iterdir())) == IMAGES and number == KILLERS[0], 60)
    elif number not in KILLERS:
        return work(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
    return None


class Deadly(Executor):
    """An executor that passes each image to another executor with `read_or_die`, and starts a new worker
    after each death."""

    def __init__(self, executor: Executor, cluster: DaskCluster, met: Path) -> None:
        self._executor = executor
        self._cluster = cluster
        self._met = met
        self._mutex = threading.Lock()
        self._given: list[Future[Any]] = []
        self._deaths = 1
        self.tries: Counter[int] = Counter()
        self.beside: list[int] = []
        """For each second try: the number of images that the executor had not answered yet."""

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **_: Any) -> "Future[Any]":
        number = int(arguments[1].reference.repository.removeprefix("team/app"))
        with self._mutex:
            self.tries[number] += 1
            if self.tries[number] == 2:
                self.beside.append(sum(not one.done() for one in self._given))
                self._have_worker()
                self._deaths += number in KILLERS
            given = self._executor.submit(read_or_die, self._met, number, work, *arguments)
            self._given.append(given)
            return given

    def _have_worker(self) -> None:
        """Starts a worker if the last one has been killed."""
        until(lambda: len(self.dead) == self._deaths)
        if len(self.dead) == len(self._cluster.workers):
            self._cluster.add_worker()

    @property
    def dead(self) -> list[int]:
        return [code for one in self._cluster.workers if (code := one.poll()) is not None]


def test_images_that_kill_their_workers_fail_alone(tmp_path: Path) -> None:
    for name in ("new", "met", "dask", "registry"):
        (tmp_path / name).mkdir()
    new_repository(tmp_path / "new")
    with (
        real_registry(tmp_path / "registry", accounts_needed=False) as registry,
        dask_cluster(tmp_path / "dask", 1, IMAGES) as cluster,
    ):
        for number in range(IMAGES):
            registry.put(built(f"own{number}"), f"team/app{number}", "1")
        site = Site(tmp_path / "new", tmp_path / "site", registry, IMAGES)
        with dask_workers(cluster.address, site.store) as workers:
            assert workers is not None
            deadly = Deadly(workers.executor, cluster, tmp_path / "met")
            report = site.sync(deadly)
            assert deadly.dead == [-signal.SIGKILL] * 3  # one had all images, two had a killer each
    assert deadly.tries == dict.fromkeys(range(IMAGES), 2)
    assert deadly.beside == [0] * IMAGES
    failed = {event.image: event.reason for event in report.events if event.event == "failed"}
    assert sorted(failed) == [f"registry.example/team/app{number}:1" for number in KILLERS]
    assert all("its worker was lost: KilledWorker" in reason for reason in failed.values())
    assert report.count("published") == IMAGES - len(KILLERS)
    lazyfs("check", site.store)


def test_a_shared_lock_is_held_alone_when_nobody_else_has_it() -> None:
    lock = SharedLock()
    held = threading.Event()
    free = threading.Event()

    def hold_alone() -> None:
        with lock.alone(lambda: False, 0.01) as has_it:
            assert has_it
            held.set()
            free.wait(20)

    thread = threading.Thread(target=hold_alone)
    with lock.together():
        thread.start()
        with lock.together():  # goes before the thread that waits to be alone
            assert not held.is_set()
        with lock.alone(lambda: True, 0.01) as has_it:
            assert not has_it
        assert not held.is_set()
    assert held.wait(20)
    with lock.alone(lambda: True, 0.01) as has_it:
        assert not has_it
    beside = threading.Event()

    def hold_together() -> None:
        with lock.together():
            beside.set()

    other = threading.Thread(target=hold_together)
    other.start()
    assert not beside.wait(0.1)
    free.set()
    thread.join(20)
    assert beside.wait(20)
    other.join(20)
