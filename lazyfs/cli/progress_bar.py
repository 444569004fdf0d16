"""Progress of one long task on standard error: a bar on a terminal, a line every ten seconds in a log."""

import sys
from typing import TYPE_CHECKING

from lazyfs.cli.progress import Counter
from lazyfs.core.printable import escaped

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class ProgressBar:
    """Shows one bar. Use as a context manager."""

    def __init__(self, title: str, *, enabled: bool = True) -> None:
        self._title = escaped(title)
        self._lines = Counter(enabled=enabled)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        if enabled and sys.stderr.isatty():
            from rich import progress
            from rich.console import Console

            self._bar = progress.Progress(
                progress.TextColumn("{task.description}", markup=False),
                progress.BarColumn(),
                progress.TextColumn("{task.fields[text]}", markup=False),
                progress.TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )

    def __enter__(self) -> "ProgressBar":
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=None, text="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, done: int, total: int, text: str) -> None:
        """Shows the progress of the task. `total`: 0 if it is not known yet. `text`: the text shown with the
        bar."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total or None, text=text)
        else:
            self._lines.show(f"{self._title}: {text}")
