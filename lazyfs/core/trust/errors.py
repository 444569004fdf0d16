"""Why signed metadata is not believed: one class, and so one message, for each reason."""

from lazyfs.core.errors import TrustError


class Malformed(TrustError):
    """Not metadata of the role asked for."""


class TooLarge(TrustError):
    """More bytes than the role may have, or than its signed length."""


class WrongKey(TrustError):
    """Not one valid signature by a key of the role."""


class ThresholdNotMet(TrustError):
    """Valid signatures, but of fewer keys than the role demands."""


class WrongVersion(TrustError):
    """Another version than the one asked for by number."""


class Rollback(TrustError):
    """An older version than one that was trusted before."""


class MixedUp(TrustError):
    """Files that do not belong together: one is not what the other names by hash, or one version has two
    contents."""


class Expired(TrustError):
    """New metadata that is past its expiry date already."""


class Frozen(TrustError):
    """The server still has the timestamp that is trusted already, and that one has expired."""


class WrongRoot(TrustError):
    """Not the root that the fingerprint, the root file or an earlier run names."""
