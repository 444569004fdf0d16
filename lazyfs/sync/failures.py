"""The reasons for which one image, wish or list fails, while the others go on."""

import logging
from typing import NamedTuple

from lazyfs.core.errors import BadData, LazyfsError, TransportError, UsageError

log = logging.getLogger(__name__)


class Failure(NamedTuple):
    """The reason why an image cannot be read, or a question to a registry has no usable answer. The published
    image stays in the tree."""

    reason: str
    transient: bool


def failure_of(error: Exception) -> Failure:
    """Returns the Failure for an error. Only an error in transport is transient, so that a retry may help; a
    fault of the image is not.

    An error that is no LazyfsError is a bug of lazyfs which this image, wish or list has met. The reason has
    only the error's type: reasons are public, and the error's own text may have a secret in it. With --debug
    its traceback is logged.
    """
    if isinstance(error, LazyfsError):
        lasting = isinstance(error, BadData | UsageError) or not isinstance(error, TransportError)
        return Failure(str(error), transient=not lasting)
    reason = f"unforeseen {type(error).__name__}, a bug of lazyfs: lazyfs --debug shows where"
    if log.isEnabledFor(logging.DEBUG):
        log.warning("%s", reason, exc_info=error)
    return Failure(reason, transient=False)
