"""The cache's own error family. A failing disk is never one of these: it only makes answers "not here"."""


class CacheError(Exception):
    """The cache cannot do what was asked; one line that names the thing, the value and what to do."""


class UnusableDirectory(CacheError):
    """The directory cannot hold a cache: wrong owner, foreign content, network filesystem, other format."""


class PinSetTooLarge(CacheError):
    """Pinning this would leave the cache no space that eviction could free."""
