"""Progress of reading images: a bar for each image on a terminal, a line for each layer in a log."""

import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from lazyfs.cli.say import say
from lazyfs.core.printable import escaped
from lazyfs.images.observer import PublishObserver

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

NAME_WIDTH = 30
"""Characters of an image's name before its bar: name, bar and figures together take fewer than 80."""


class ShownLayers(PublishObserver):
    """Shows warnings, images and layers on standard error. Use as a context manager."""

    def __init__(self, *, enabled: bool, terminal: "Console | None" = None) -> None:
        """`terminal`: the terminal to write to; standard error by default."""
        self._enabled = enabled
        self._terminal = terminal
        self._bars: Progress | None = None
        self._image: TaskID | None = None
        self._layers = 0
        self._layer = 0

    def __enter__(self) -> "ShownLayers":
        if self._enabled and (self._terminal or sys.stderr.isatty()):
            # Imported only here: it takes 57 ms, and a job that writes a log does without.
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

            self._bars = Progress(
                TextColumn("{task.description}", markup=False),
                TextColumn("{task.fields[layers]}", markup=False),
                BarColumn(10),
                DownloadColumn(),
                TransferSpeedColumn(),
                console=self._terminal or Console(stderr=True),
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

    def image(self, name: str, layers: int, size: int) -> None:
        if self._bars:
            shown = escaped(name)
            short = shown if len(shown) <= NAME_WIDTH else "..." + shown[3 - NAME_WIDTH :]
            self._layers, self._layer = layers, 0
            self._image = self._bars.add_task(short, total=size, layers=f"0/{layers}")

    def layer(self, name: str, size: int, *, kept: bool) -> Callable[[int], None]:
        if not self._enabled:
            return lambda _count: None
        bars, image = self._bars, self._image
        if bars is None or image is None:
            say(f"{name}: {size} bytes{', already in the store' if kept else ''}", err=True)
            return lambda _count: None
        self._layer += 1
        bars.update(image, advance=size if kept else 0, layers=f"{self._layer}/{self._layers}")
        return lambda count: bars.advance(image, count)
