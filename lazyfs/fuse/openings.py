"""The openings under way of a site's repositories. Each repository is opened once, however many calls wait
for it.

An opening is a task of its own and ends with no call: if the caller that began it is killed or runs out of
time, the opening goes on for the other callers. So no connection is left behind half made, and no repository
gets two tasks that look for new revisions.
"""

import logging
import time
from collections.abc import Awaitable, Callable

from lazyfs.core.errors import DeadlineExceeded, LazyfsError

log = logging.getLogger(__name__)


class _Opening:
    def __init__(self) -> None:
        import trio  # imported only here: the direct session answers before the event loop is loaded

        self.ended = trio.Event()
        self.error: LazyfsError | OSError | None = None


class Openings:
    """The openings under way of one mount. Belongs to one trio run."""

    def __init__(self, open_repository: Callable[[str], Awaitable[None]]) -> None:
        """`open_repository` must end by itself; it raises LazyfsError or OSError."""
        self._open = open_repository
        self._under_way: dict[str, _Opening] = {}

    async def wait_for(self, name: str, deadline: float) -> None:
        """Opens a repository, or waits for the opening under way. `deadline` is on time.monotonic()'s clock.

        Raises the opening's error, or DeadlineExceeded.
        """
        import trio

        opening = self._under_way.get(name)
        if opening is None:
            opening = self._under_way[name] = _Opening()
            trio.lowlevel.spawn_system_task(self._run, name, opening, name=f"open {name}")
        with trio.move_on_after(max(deadline - time.monotonic(), 0)):
            await opening.ended.wait()
        if not opening.ended.is_set():
            raise DeadlineExceeded(f"repository {name}: not open by the deadline")
        if opening.error is not None:
            raise opening.error

    async def _run(self, name: str, opening: _Opening) -> None:
        # A system task: an error that escapes would end the whole trio run, so none does.
        try:
            await self._open(name)
        except (LazyfsError, OSError) as error:
            opening.error = error
        except Exception as bug:
            log.exception("opening %s", name)
            opening.error = LazyfsError(f"repository {name}: {type(bug).__name__}: {bug}")
        finally:
            del self._under_way[name]
            opening.ended.set()
