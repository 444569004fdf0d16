"""The calls of programs into a mount that wait for missing objects. While any call waits, nothing is fetched
on a guess."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a mount answers before the event loop is loaded
    import trio


class Demand:
    """The demand of all repositories of one mount, which share a network line. Belongs to one trio run."""

    def __init__(self) -> None:
        self.calls = 0
        """Number of calls that wait."""
        self._idle: list[trio.Event] = []

    def began(self) -> None:
        """Counts a call that begins to wait."""
        self.calls += 1

    def ended(self) -> None:
        """Counts a call whose wait has ended."""
        self.calls -= 1
        if not self.calls:
            for event in self._idle:
                event.set()
            self._idle.clear()

    async def idle(self) -> None:
        """Returns once no call waits."""
        import trio

        while self.calls:
            event = trio.Event()
            self._idle.append(event)
            await event.wait()
