"""The events of a publish, for the command line to show."""

from collections.abc import Callable


class PublishObserver:
    """Takes the warnings and layers of a publish, and ignores them. The command line's subclass shows
    them."""

    def warn(self, message: str) -> None:
        """Takes a message for the operator, one line."""

    def image(self, name: str, layers: int, size: int) -> None:
        """Called before the layers of an image are read: `layers` is their number, `size` their stored bytes
        together."""

    def layer(self, name: str, size: int, *, kept: bool) -> Callable[[int], None]:  # noqa: ARG002
        """Called for a layer of `size` stored bytes that is in the store already (`kept`) or is about to be
        read. Returns the function to call with the byte count of each part read."""
        return lambda _count: None
