"""Requests to a daemon. The test decides when the daemon's repositories answer."""

from types import SimpleNamespace
from typing import cast

import trio

from lazyfs.core.errors import TransportError
from lazyfs.daemon.control_requests import ControlRequests
from lazyfs.daemon.repositories import Repositories
from lazyfs.daemon.settings import Settings
from lazyfs.daemon.status import MountStatus
from lazyfs_cache import NullCache


def no_status() -> MountStatus:
    raise AssertionError("not asked for here")


async def test_repositories_look_for_news_side_by_side() -> None:
    """The first refresh returns only after the last one has begun. Refreshes in sequence would never end."""
    last_begun = trio.Event()

    async def refresh(name: str) -> bool:
        if name == "last":
            last_begun.set()
        await last_begun.wait()
        if name == "dead":
            raise TransportError("no server")
        if name == "gone":
            raise KeyError(name)
        return name == "first"

    names = ("first", "dead", "gone", "last")
    answering = SimpleNamespace(
        opened=dict.fromkeys(names), refresh=refresh, is_behind_caches=lambda _: False
    )
    repositories = cast(Repositories, answering)
    requests = ControlRequests(no_status, Settings(patience=7.0), {}, repositories, NullCache())
    with trio.fail_after(20):
        found = await requests.handlers()["refresh"]({})
        assert (await requests.handlers()["pid"]({}))["patience"] == 7.0
    assert found == {
        "repositories": {
            "first": "new revision",
            "dead": "failed: no server",
            "gone": "failed: 'gone'",
            "last": "no news",
        }
    }
