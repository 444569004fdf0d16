"""The opening of repositories, and the work that starts before the mount exists."""

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from lazyfs.core.digest import ObjectRef, object_path
from lazyfs.core.errors import NotFound, TransportError
from lazyfs.core.params import Revision
from lazyfs.daemon.certificates import Certificates
from lazyfs.daemon.repositories import Repositories
from lazyfs.daemon.repository_connection import ConnectedRepository, Connector
from lazyfs.daemon.settings import RepositorySource, Settings
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.prefetch.prefetcher import Prefetcher
from lazyfs.vfs.slots import SlotTable
from lazyfs.vfs.tree import Tree
from lazyfs_cache import NullCache
from tests.support.fault_server import FaultServer, of_directory
from tests.support.filesystems import no_site
from tests.support.images import live
from tests.support.repository import Published


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
