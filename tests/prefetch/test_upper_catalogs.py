"""Prefetching of catalogs from a root catalog down to its images, before any lookup. It takes few round trips
and is bounded."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from lazyfs.client.objects import Objects
from lazyfs.core.catalog.inode import Nested
from lazyfs.core.digest import ObjectRef, object_path, ref_of
from lazyfs.prefetch.upper_catalogs import UpperCatalogs
from lazyfs.prefetch.upper_choice import BYTES, FOLDERS, IMAGES
from lazyfs.transport.fetcher import Request, never_cancelled
from lazyfs.transport.local import LocalFetcher
from tests.support.images import Objects as Made
from tests.support.images import image, live
from tests.support.memory_cache import MemoryCache
from tests.support.store_files import store_object


class Turnstile:
    """A store in which each request waits until the test lets its path through."""

    def __init__(self, directory: Path) -> None:
        self._store = LocalFetcher(str(directory))
        self.requests: list[str] = []
        self.through: set[str] = set()

    def fetch(self, request: Request, check_cancelled: Callable[[], None] = never_cancelled) -> bytes:
        self.requests.append(request.path)
        while request.path not in self.through:
            check_cancelled()
            time.sleep(0.001)
        return self._store.fetch(request, check_cancelled)

    def close(self) -> None:
        pass


class Repository:
    """A tree in a store, to check which requests a walk from the root makes in each round trip."""

    def __init__(self, directory: Path) -> None:
        self.made = Made()
        self.directory = directory
        self.cache = MemoryCache()
        self.fetcher = Turnstile(directory)
        self.objects = Objects(self.fetcher, self.cache)

    def image(self, number: int, files: int = 1) -> Nested:
        return image(self.made, {f"file{i}-{number}": b"%d" % number for i in range(files)})

    def live(self, spec: dict[str, Any]) -> Nested:
        return live(self.made, spec)

    def store(self, *which: Nested) -> None:
        """Writes these objects, by default all, to where the fetcher finds them."""
        for ref in [one.ref for one in which] or list(map(ref_of, self.made.values())):
            store_object(self.directory, self.made[ref.digest])

    async def asks(self, root: Nested, *rounds: set[str], first: Iterable[Nested] = ()) -> None:
        """Asserts that a walk makes exactly these requests, and that it makes all requests of a round before
        it gets any answer of that round. `first`: the catalogs that the revision names."""
        named = [one.ref for one in first]
        self.store()
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(UpperCatalogs(self.objects).run, root.ref, named)
                for expected in rounds:
                    while not set(self.fetcher.requests) >= expected:
                        await trio.sleep(0.001)
                    self.fetcher.through |= expected
        assert sorted(self.fetcher.requests) == sorted(path for expected in rounds for path in expected)


def paths(*nested: Nested) -> set[str]:
    return {object_path(one.ref.digest) for one in nested}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


async def test_the_catalogs_on_the_way_to_an_image_take_four_round_trips(repository: Repository) -> None:
    one = repository.image(1)
    group = repository.live({"ab12": one})
    flat = repository.live({"ab": group})
    registry = repository.live({"app:1": "../.flat/ab/ab12"})
    layers = repository.live({"cd": repository.live({"cd34": repository.image(2)})})
    root = repository.live({".flat": flat, ".layers": layers, "registry": registry})
    await repository.asks(root, paths(root), paths(flat, registry), paths(group), paths(one))


async def test_catalogs_that_the_revision_names_come_along_with_the_root(repository: Repository) -> None:
    one = repository.image(1)
    group = repository.live({"ab12": one})
    flat = repository.live({"ab": group})
    registry = repository.live({"app:1": "../.flat/ab/ab12"})
    root = repository.live({".flat": flat, "registry": registry})
    first = [flat, registry, group]
    await repository.asks(root, paths(root, *first), paths(one), first=first)


async def test_of_many_images_none_is_chosen(repository: Repository) -> None:
    images = {f"ab{i}": repository.image(i) for i in range(IMAGES + 1)}
    flat = repository.live({"ab": repository.live(images)})
    registry = repository.live({f"app:{i}": f"../.flat/ab/ab{i}" for i in range(IMAGES + 1)})
    root = repository.live({".flat": flat, "registry": registry})
    await repository.asks(root, paths(root), paths(flat, registry))


async def test_folders_are_bounded(repository: Repository) -> None:
    folders = {f"r{i}": repository.live({f"x{i}": repository.image(i)}) for i in range(2 * FOLDERS)}
    flat = repository.live({})
    root = repository.live({".flat": flat, **folders})
    some = [folders[name] for name in sorted(folders)[:FOLDERS]]
    await repository.asks(root, paths(root), paths(flat, *some))


async def test_links_that_lead_elsewhere_and_large_catalogs_are_left_alone(repository: Repository) -> None:
    large = repository.image(1, files=40_000)
    assert large.ref.size > BYTES
    group = repository.live({"ab12": large})
    flat = repository.live({"ab": group})
    registry = repository.live({"app:1": "../.flat/ab/ab12", "odd:1": "/etc/.flat/ab/ab12"})
    root = repository.live({".flat": flat, "registry": registry})
    await repository.asks(root, paths(root), paths(flat, registry), paths(group))


async def test_nothing_is_fetched_for_a_cache_that_keeps_nothing(repository: Repository) -> None:
    root = repository.live({".flat": repository.live({})})
    repository.store()
    repository.cache.failing = True
    repository.fetcher.through = paths(root)
    await repository.objects.fetch(root.ref)
    await UpperCatalogs(repository.objects).run(root.ref)
    assert repository.fetcher.requests == [*paths(root)]


async def test_what_cannot_be_had_ends_the_walk_quietly(repository: Repository) -> None:
    flat = repository.live({"ab": repository.live({"ab12": repository.image(1)})})
    registry = repository.live({"app:1": "../.flat/ab/ab12"})
    root = repository.live({".flat": flat, "registry": registry})
    repository.store(root)
    repository.fetcher.through = paths(root, flat, registry)
    await UpperCatalogs(repository.objects).run(root.ref)
    assert set(repository.fetcher.requests) == paths(root, flat, registry)


async def test_a_bug_is_logged_and_ends_the_walk_alone(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def bug(ref: ObjectRef) -> bytes:
        raise RuntimeError(f"bug at {ref.size}")

    root = repository.live({".flat": repository.live({})})
    monkeypatch.setattr(repository.objects, "at_hand", bug)
    trio.lowlevel.spawn_system_task(UpperCatalogs(repository.objects).run, root.ref)
    await trio.testing.wait_all_tasks_blocked()
    assert f"bug at {root.ref.size}" in caplog.text
