"""The opening of repositories, and the work that begins before the mount is made."""

from pathlib import Path

import pytest
import trio
import trio.testing

from lazyfs.core.digest import ObjectRef
from lazyfs.core.params import Revision
from lazyfs.daemon.certificates import Certificates
from lazyfs.daemon.repositories import Repositories
from lazyfs.daemon.settings import RepositorySource, Settings
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.prefetch.prefetcher import Prefetcher
from lazyfs.vfs.slots import SlotTable
from lazyfs.vfs.tree import Tree
from lazyfs_cache import NullCache
from tests.support.filesystems import no_site
from tests.support.images import live
from tests.support.repository import Published


@pytest.mark.parametrize(("user", "walks"), [(None, 1), ("nobody", 0)])
async def test_nothing_is_fetched_in_threads_while_the_process_may_be_root(
    user: str | None, walks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: files written so early belonged to root, `--user` could not read them, and the cache went
    off."""
    published = Published(tmp_path)
    published.commit(live(published.objects, {}))
    begun: list[ObjectRef] = []

    def on_open(_: Prefetcher, root: ObjectRef) -> None:
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
