"""What a publish tells of itself while it runs."""

from collections.abc import Callable


class Watch:
    """Takes it all and says nothing; the command line has one that shows it."""

    def warn(self, message: str) -> None:
        """Something the operator should know, one line."""

    def layer(self, name: str, size: int, *, kept: bool) -> Callable[[int], None]:  # noqa: ARG002
        """A layer of `size` stored bytes: `kept` in the store already, or about to be read. Returns what to
        call with the count of each part that has been read."""
        return lambda _count: None
