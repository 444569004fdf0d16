"""Makes coverage a target for Hypothesis, which then searches for inputs that run more lines of the package,
as a coverage-guided fuzzer does."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hypothesis import target


@contextmanager
def led_by_lines(*modules: str) -> Iterator[None]:
    """Counts the distinct lines of these modules that run in the block, and gives the number to Hypothesis as
    a target."""
    files = {sys.modules[module].__file__ for module in modules}
    reached: set[tuple[str, int]] = set()

    def line(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            reached.add((frame.f_code.co_filename, frame.f_lineno))
        return line

    def call(frame: FrameType, _event: str, _: Any) -> Any:
        return line if frame.f_code.co_filename in files else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        yield
    finally:
        sys.settrace(before)
        if reached:
            target(float(len(reached)), label="lines")
