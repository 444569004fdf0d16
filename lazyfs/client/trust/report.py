"""The state of trust as the daemon reports it. Importing this module does not import python-tuf."""

import msgspec


class TrustReport(msgspec.Struct, frozen=True):
    """The state of trust that `lazyfs status` shows. Times are seconds since 1970; 0 means never."""

    repository: str
    revision: int
    published: int
    root_version: int
    timestamp_version: int
    expires: int
    expired: bool
    """True after the expiry date: the revision is still served, but no new one is taken."""
    refreshed: float
    """The last time that the server's timestamp was trusted."""
    error: str
    """The reason why the last refresh failed; empty if it did not."""
    problem: str
    """The reason why the trusted state could not be loaded from or saved to disk; empty if it could."""
