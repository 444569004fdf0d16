"""Opening repositories: what begins before the mount is made."""

from pathlib import Path

import pytest
import trio
import trio.testing

from lazyfs.core.digest import ObjectRef
from lazyfs.daemon import repositories
from lazyfs.daemon.certificates import Certificates
from lazyfs.daemon.repositories import Repositories
from lazyfs.daemon.settings import Place, Settings
from lazyfs.fuse.filesystem import Filesystem
from lazyfs.vfs.slots import SlotTable
from lazyfs.vfs.tree import Tree
from lazyfs_cache import NullCache
from tests.support.images import live
from tests.support.repository import Published


@pytest.mark.parametrize(("user", "walks"), [(None, 1), ("nobody", 0)])
async def test_nothing_is_fetched_in_threads_while_the_process_may_be_root(
    user: str | None, walks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files written then were root's, and `--user` could not read them: the cache went off."""
    published = Published(tmp_path)
    published.commit(live(published.objects, {}))
    begun: list[ObjectRef] = []

    class Walk:
        def __init__(self, _: object) -> None: ...

        async def run(self, root: ObjectRef) -> None:
            begun.append(root)

    async def none(_: str) -> None:
        raise AssertionError("no site here")

    monkeypatch.setattr(repositories, "Walk", Walk)
    settings = Settings(source=str(published.store), mountpoint=str(tmp_path / "mnt"), user=user)
    opened = Repositories(settings, NullCache(), str(tmp_path / "state"), Certificates(settings))
    await opened.open(Place(url=str(published.store)), Filesystem(Tree(SlotTable()), none))
    await trio.testing.wait_all_tasks_blocked()
    opened.close()
    assert len(begun) == walks
