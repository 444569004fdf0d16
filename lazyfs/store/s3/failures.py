"""Finds out what a bucket's refusal means.

obstore chooses the class of an error by its status, and has the same class for 409 and 412. Only the error's
text has the status and the code. Nothing else of the text is passed on: the answer to a wrong signature
repeats the request with its session token.
"""

import enum
import re
from typing import NamedTuple

_STATUS = re.compile(r"status code: (\d{3})|\b(?:got|status) (\d{3})\b")
_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>")
_RENEWABLE = {"ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "TokenRefreshRequired"}
_TOO_FAST = {"SlowDown", "RequestLimitExceeded", "Throttling", "ThrottlingException", "TooManyRequests"}
_PASSING = {"RequestTimeout", "InternalError", "ServiceUnavailable", "OperationAborted", "IncompleteBody"}
_DAMAGED = {"XAmzContentSHA256Mismatch", "BadDigest", "XAmzContentChecksumMismatch"}


class Meaning(enum.Enum):
    """The meaning of a failure for the caller: the fact that it states, or the next thing to do."""

    ABSENT = "there is certainly no such object"
    PRECONDITION = "the condition of a write did not hold (412)"
    TOO_FAST = "fewer requests at once, then again"
    PASSING = "again after a while; a write may have happened"
    CREDENTIALS = "again, if there are other credentials by now"
    FINAL = "again would be the same"


class Failure(NamedTuple):
    """One failed request."""

    meaning: Meaning
    text: str
    """The reason that the bucket gave, such as the status and the code."""
    may_have_happened: bool = False
    """True for a write that may have been made: no answer says that it was not."""


def read_failure(error: Exception) -> Failure:
    """Returns the meaning of an exception of obstore's."""
    text = str(error)
    kind = type(error).__name__
    found = _STATUS.search(text)
    status = int(found[1] or found[2]) if found else 0
    code_found = _CODE.search(text)
    code = code_found[1] if code_found else ""
    said = " ".join(filter(None, (f"status {status}" if status else "", code)))
    unsure = status == 0 or (status >= 500 and code not in _TOO_FAST)
    return Failure(_meaning(kind, status, code, text), said or _without_server(text), unsure)


def _meaning(kind: str, status: int, code: str, text: str) -> Meaning:
    if code in _RENEWABLE:
        return Meaning.CREDENTIALS
    if code in _TOO_FAST or status == 429 or (status == 503 and code not in _PASSING):
        return Meaning.TOO_FAST
    if (
        status == 409
        or code in _PASSING
        or code in _DAMAGED
        or (status >= 500 and status != 501)
        or status == 408
    ):
        return Meaning.PASSING
    if kind in ("NotFoundError", "FileNotFoundError"):
        return Meaning.FINAL if code == "NoSuchBucket" else Meaning.ABSENT
    if kind in ("AlreadyExistsError", "PreconditionError"):
        return Meaning.PRECONDITION
    if status:
        return Meaning.CREDENTIALS if status in (401, 403) else Meaning.FINAL
    if _asks_the_cloud(text):
        return Meaning.FINAL
    return Meaning.PASSING if kind == "GenericError" else Meaning.FINAL


def _asks_the_cloud(text: str) -> bool:
    """Returns True if the failed request is one of obstore's for the credentials that a cloud gives to a
    machine."""
    return "/latest/api/token" in text or "/latest/meta-data/" in text


def _without_server(text: str) -> str:
    """Returns the reason, in obstore's words, why a request got no answer."""
    if _asks_the_cloud(text):
        return (
            "no credentials were found: set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "write ~/.aws/credentials; AWS_SKIP_SIGNATURE=true asks a public bucket without any"
        )
    lowered = text.lower()
    for reason in (
        "timed out",
        "connection refused",
        "dns error",
        "certificate",
        "connection closed",
        "reset",
    ):
        if reason in lowered:
            return reason
    return "no answer"
