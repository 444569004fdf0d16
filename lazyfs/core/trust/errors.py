"""The reasons to refuse a file of signed metadata: one class, and so one message, for each."""

from lazyfs.core.errors import TrustError


class Malformed(TrustError):
    """The file is not metadata of the role that was asked for."""


class TooLarge(TrustError):
    """The file has more bytes than its role may have, or than its signed length."""


class WrongKey(TrustError):
    """The file has no valid signature by a key of its role."""


class ThresholdNotMet(TrustError):
    """The file has valid signatures, but of fewer keys than its role demands."""


class WrongVersion(TrustError):
    """The file has another version number than the one that was asked for."""


class Rollback(TrustError):
    """The file is older than one that was trusted before."""


class MixedUp(TrustError):
    """Files do not belong together: one names another by a hash that it does not have, or one version has two
    contents."""


class Expired(TrustError):
    """The new file is past its expiry date already."""


class Frozen(TrustError):
    """The server still has the timestamp that is trusted already, and that one has expired."""


class WrongRoot(TrustError):
    """The root file differs from the one to expect: the operator's, the one with the operator's fingerprint,
    or the one that an earlier run trusted."""
