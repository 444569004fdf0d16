"""The events of a publish, for the command line to show."""

from collections.abc import Callable


class PublishObserver:
    """Is told of warnings and layers while sources are read, and ignores them; the command line shows
    them."""

    def warn(self, message: str) -> None:
        """Takes a message for the operator, one line."""

    def image(self, name: str, layers: int, size: int) -> None:
        """Takes note of an image of so many layers, of `size` stored bytes together, which are read next."""

    def layer(self, name: str, size: int, *, kept: bool) -> Callable[[int], None]:  # noqa: ARG002
        """Is told of a layer of `size` stored bytes, which is in the store already (`kept`) or about to be
        read. Returns the function to call with the byte count of each part read."""
        return lambda _count: None
