"""The opening of repositories, and the work that starts before the mount exists."""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from lazyfs.client.collected_profiles import CollectedProfiles
from lazyfs.client.trust.refresher import Refresher
from lazyfs.core.digest import ObjectRef, object_path
from lazyfs.core.errors import BadData, NotFound, TransportError
from lazyfs.core.params import Revision
from lazyfs.core.trust.errors import Expired
from lazyfs.daemon.certificates import Certificates
from lazyfs.daemon.connected_repository import ConnectedRepository
from lazyfs.daemon.repositories import Repositories
from lazyfs.daemon.repository_connection import Connector
from lazyfs.daemon.settings import RepositorySource, Settings
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.prefetch.prefetcher import Prefetcher
from lazyfs.vfs.slots import SlotTable
from lazyfs.vfs.tree import Tree
from lazyfs_cache import NullCache
from tests.support.fault_server import FaultServer, of_directory
from tests.support.filesystems import no_site
from tests.support.images import image, live
from tests.support.repository import Published

PATIENCE = Settings().patience


async def test_a_repository_whose_root_cannot_be_fetched_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site repeats a failed opening at each lookup of the name. Regression: each attempt left connections
    and a thread behind."""
    published = Published(tmp_path)
    root = live(published.objects, {}).ref
    published.commit(live(published.objects, {}))
    (published.store / object_path(root.digest)).unlink()
    connected: list[ConnectedRepository] = []
    connect = Connector.connect

    def note(*arguments: Any) -> ConnectedRepository:
        connected.append(connect(*arguments))
        return connected[-1]

    async def nothing(*_: object) -> None: ...

    monkeypatch.setattr(Connector, "connect", note)
    with FaultServer(of_directory(published.store)) as server:
        source = RepositorySource(url=server.url, trust=str(published.store / "metadata/1.root.json"))
        settings = Settings(source=server.url, mountpoint=str(tmp_path / "mnt"))
        state = str(tmp_path / "state")
        filesystem = Filesystem(Tree(SlotTable()), no_site)
        certificates = Certificates(settings)
        opened = Repositories(settings, NullCache(), state, certificates, filesystem, nothing, nothing)
        with pytest.raises(NotFound):
            await opened.open(source)
        (one,) = connected
        while one.objects._downloads._threads._working:
            await trio.sleep(0.001)
        while server._open:
            await trio.sleep(0.001)
        with pytest.raises(TransportError, match="is closed"):
            await one.objects.fetch(root)
        assert not opened.opened


@pytest.mark.parametrize(("user", "walks"), [(None, 1), ("nobody", 0)])
async def test_nothing_is_fetched_in_threads_while_the_process_may_be_root(
    user: str | None, walks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: files fetched before the change of user belonged to root. With `--user` the daemon could
    not read them, and turned the cache off."""
    published = Published(tmp_path)
    published.commit(live(published.objects, {}))
    begun: list[ObjectRef] = []

    def on_open(_: Prefetcher, root: ObjectRef, __: object) -> None:
        begun.append(root)

    async def on_advance(_: str, __: Revision) -> None:
        raise AssertionError("no other revision here")

    monkeypatch.setattr(Prefetcher, "on_open", on_open)
    settings = Settings(source=str(published.store), mountpoint=str(tmp_path / "mnt"), user=user)

    async def on_withdraw(_: str) -> None:
        raise AssertionError("it is not withdrawn here")

    state = str(tmp_path / "state")
    shown = Filesystem(Tree(SlotTable()), no_site)
    opened = Repositories(
        settings, NullCache(), state, Certificates(settings), shown, on_advance, on_withdraw
    )
    await opened.open(RepositorySource(url=str(published.store)))
    await trio.testing.wait_all_tasks_blocked()
    opened.close()
    assert len(begun) == walks


async def test_nothing_is_asked_for_a_withdrawn_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: collected profiles were looked for until the mount's end, and once more for each time that
    the repository had come back."""
    published = Published(tmp_path)
    published.commit(live(published.objects, {}))
    looks, withdrawn = list[None](), trio.Event()

    def look(*_: object) -> None:
        looks.append(None)

    async def expire(_: Refresher) -> None:
        while len(looks) < 3:
            await trio.sleep(0.001)
        raise Expired("too old")

    async def on_advance(_: str, __: Revision) -> None:
        raise AssertionError("no other revision here")

    async def on_withdraw(_: str) -> None:
        withdrawn.set()

    monkeypatch.setattr(CollectedProfiles, "refresh", look)
    monkeypatch.setattr(Refresher, "run", expire)
    source = RepositorySource(url=str(published.store))
    settings = Settings(mountpoint=str(tmp_path / "mnt"), repositories={"one": source}, refresh=0.01)
    opened = Repositories(
        settings, NullCache(), str(tmp_path / "state"), Certificates(settings),
        Filesystem(Tree(SlotTable()), no_site), on_advance, on_withdraw,
    )  # fmt: skip
    await opened.open(source, "one")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(opened.keep_fresh)
        with trio.fail_after(30):
            await withdrawn.wait()
        await trio.testing.wait_all_tasks_blocked(0.05)
        before = len(looks)
        await trio.sleep(0.2)
        assert len(looks) == before
        nursery.cancel_scope.cancel()
    opened.close()


async def test_a_mount_that_ends_waits_for_no_server_that_it_connects_to(tmp_path: Path) -> None:
    """Regression: a connection under way went on for `patience`, and so did the daemon of an ended mount."""
    published = Published(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        source = RepositorySource(url=url, trust=str(published.store / "metadata/1.root.json"))
        opened = _unchanging(
            Settings(mountpoint=str(tmp_path / "mnt"), repositories={"one": source}), tmp_path
        )
        began = time.monotonic()
        with trio.move_on_after(0.2):
            await opened.open(source, "one")
    assert time.monotonic() - began < PATIENCE / 2
    opened.close()


async def test_a_mount_that_ends_waits_for_no_look_for_profiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: such a look went on for `patience`, and so did the daemon of an ended mount."""
    published = Published(tmp_path)
    published.commit(live(published.objects, {}))
    looking = trio.Event()

    def look(_: CollectedProfiles, __: object, deadline: float, check_cancelled: Callable[[], None]) -> None:
        trio.from_thread.run_sync(looking.set)
        while time.monotonic() < deadline:
            check_cancelled()
            time.sleep(0.01)

    monkeypatch.setattr(CollectedProfiles, "refresh", look)
    settings = Settings(source=str(published.store), mountpoint=str(tmp_path / "mnt"))
    opened = _unchanging(settings, tmp_path)
    await opened.open(RepositorySource(url=str(published.store)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(opened.keep_fresh)
        await looking.wait()
        began = time.monotonic()
        nursery.cancel_scope.cancel()
    assert time.monotonic() - began < PATIENCE / 2
    opened.close()


async def test_without_a_cache_a_mount_begins_with_the_newest_root_catalog_that_can_be_had(
    tmp_path: Path,
) -> None:
    """A daemon that shows revision 2 goes on when revision 3 lacks its root catalog, and so do those that
    come after it."""
    published = Published(tmp_path)
    roots = [live(published.objects, {name: image(published.objects, {})}) for name in "ab"]
    settings = Settings(source=str(published.store), mountpoint=str(tmp_path / "mnt"))

    async def begins_with() -> tuple[int, str]:
        opened = _unchanging(settings, tmp_path)
        try:
            name = await opened.open(RepositorySource(url=str(published.store)))
            shown = opened.status()[name]
            return shown.revision, shown.warning
        finally:
            opened.close()

    published.commit(roots[0])
    assert await begins_with() == (2, "")
    published.commit(roots[1])
    paths = [published.store / object_path(root.ref.digest) for root in roots]
    stored = [path.read_bytes() for path in paths]
    paths[1].write_bytes(stored[0])
    revision, warning = await begins_with()
    assert revision == 2
    assert warning.startswith("revision 3 cannot be shown: ")
    paths[0].unlink()
    with pytest.raises(BadData, match="revision 3 cannot be shown"):
        await begins_with()
    paths[1].write_bytes(stored[1])
    assert await begins_with() == (3, "")
    paths[1].unlink()
    paths[0].write_bytes(stored[0])
    with pytest.raises(NotFound):  # revision 3 was shown: a mount would go back from there
        await begins_with()


def _unchanging(settings: Settings, directory: Path) -> Repositories:
    """Returns the repositories of a mount in which no revision changes."""

    async def unexpected(*_: object) -> None:
        raise AssertionError("no other revision here")

    shown = Filesystem(Tree(SlotTable()), no_site)
    state = str(directory / "state")
    return Repositories(settings, NullCache(), state, Certificates(settings), shown, unexpected, unexpected)
