"""The error families. A missing file and a broken one, bad data and failed transport are different errors.

Every message is one line that names the thing, the value and what to do; the command line prints it as it
stands and exits with `exit_code`.
"""


class LazyfsError(Exception):
    """An error that lazyfs reports to its user in one line."""

    exit_code = 1


class UsageError(LazyfsError):
    """The request cannot be carried out: wrong argument, wrong place, missing tool."""

    exit_code = 2


class AccountProblem(UsageError):
    """A registry's account cannot be read from the authfile or the options that should state it."""


class BadData(LazyfsError):
    """Bytes with wrong content."""


class FormatError(BadData):
    """Bytes that cannot be parsed; the message names the object and the field."""


class DigestMismatch(BadData):
    """Bytes that do not have the hash or size by which they were asked for."""


class UnsupportedFormat(LazyfsError):
    """A repository that needs a feature this version lacks."""


class TrustError(BadData):
    """Signed metadata that must not be trusted; core.trust has one subclass per reason."""


class TransportError(LazyfsError):
    """Bytes could not be fetched; another proxy or origin may still bring them."""


class NotFound(TransportError):
    """The server answered that it has no file of this name."""


class Unknown(NotFound):
    """The registry itself answered that it has nothing of this name. The answer is no proxy's page, and no
    account would change it."""


class Outage(TransportError):
    """No path has worked for longer than `Policy.outage_grace` of the chain: requests fail at once until one
    of them finds a path that works."""


class DeadlineExceeded(TransportError):
    """No path brought the bytes before the deadline."""
