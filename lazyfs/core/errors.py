"""The error families. Missing is not broken, and bad data is not a failed transport.

Every message is one line that names the thing, the value and what to do; the command line prints it as it
stands and exits with `exit_code`.
"""


class LazyfsError(Exception):
    """Anything lazyfs reports to its user in one line."""

    exit_code = 1


class UsageError(LazyfsError):
    """What was asked for cannot be done as asked: wrong argument, wrong place, missing tool."""

    exit_code = 2


class BadData(LazyfsError):
    """Bytes that are not what they must be."""


class FormatError(BadData):
    """Bytes that cannot be parsed; the message names the object and the field."""


class DigestMismatch(BadData):
    """Bytes whose hash or size differs from the one they were asked for by."""


class UnsupportedFormat(LazyfsError):
    """A repository that needs a feature this version lacks."""


class TrustError(BadData):
    """Signed metadata that must not be believed; core.trust has one subclass per reason."""


class TransportError(LazyfsError):
    """Bytes could not be brought here; another way may still work."""


class NotFound(TransportError):
    """The server answered that it does not have the name."""


class DeadlineExceeded(TransportError):
    """No way brought the bytes before the deadline."""
