"""The progress of layers: a bar for each on a terminal, a line for each in a log."""

import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from lazyfs.cli.say import say
from lazyfs.core.printable import escaped
from lazyfs.images.observer import PublishObserver

if TYPE_CHECKING:
    from rich.progress import Progress

NAME_WIDTH = 60
"""Characters of a layer's name before its bar."""


class ShownLayers(PublishObserver):
    """Shows warnings and layers on standard error. Use as a context manager."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._bars: Progress | None = None

    def __enter__(self) -> "ShownLayers":
        if self._enabled and sys.stderr.isatty():
            # the import takes 57 ms, which a job that writes a log need not spend
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

            self._bars = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                console=Console(stderr=True),
            )
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars:
            self._bars.stop()

    def warn(self, message: str) -> None:
        if self._bars:
            self._bars.console.print(escaped(f"lazyfs: warning: {message}"), markup=False, highlight=False)
        else:
            say(f"lazyfs: warning: {message}", err=True)

    def layer(self, name: str, size: int, *, kept: bool) -> Callable[[int], None]:
        if not self._enabled:
            return lambda _count: None
        if self._bars is None:
            say(f"{name}: {size} bytes{', already in the store' if kept else ''}", err=True)
            return lambda _count: None
        bars = self._bars
        short = name if len(name) <= NAME_WIDTH else "..." + name[3 - NAME_WIDTH :]
        task = bars.add_task(short, total=size, completed=size if kept else 0)
        return lambda count: bars.advance(task, count)
