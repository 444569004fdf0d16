"""The cache's own error family. A failing disk raises none of them: it only makes answers "not here"."""


class CacheError(Exception):
    """The cache cannot do the request. The text is one line that names the cache, the fault and the
    remedy."""


class UnusableDirectory(CacheError):
    """The directory cannot hold a cache: wrong owner, foreign content, network filesystem, other format."""


class PinSetTooLarge(CacheError):
    """These pins would leave the cache no space that eviction could free."""
