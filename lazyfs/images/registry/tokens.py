"""Answers to a registry's challenge: Basic, or a Bearer token from its token server.

Protocol: distribution-spec and docs/spec/auth/token.md of the distribution project.
"""

import re
import threading
from urllib.parse import urlsplit

import msgspec
import requests

from lazyfs.core.errors import TransportError
from lazyfs.images.registry.credentials import Credentials

MOST = 1 << 20
"""Bytes of a token server's answer; tokens of large sites have 10 KB."""
PART = 1 << 16
_PARAMETER = re.compile(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


class Refused(TransportError):
    """The registry or its token server does not let this account (or nobody) in."""


class TooLong(Exception):
    """A body of more bytes than it may have."""


class _Answer(msgspec.Struct):
    token: str | None = None
    access_token: str | None = None


_answer = msgspec.json.Decoder(_Answer)


class Authorizer:
    """Holds the Authorization header for one repository; asks for a new one when told that it is no good.
    Safe to use from several threads."""

    def __init__(
        self, session: requests.Session, scope: str, *, plain_http: bool, timeout: tuple[float, float]
    ) -> None:
        self._session = session
        self._scope = scope
        self._plain_http = plain_http
        self._timeout = timeout
        self._lock = threading.Lock()
        self._header: str | None = None

    @property
    def header(self) -> str | None:
        return self._header

    def renew(self, rejected: str | None, challenge: str, credentials: Credentials | None) -> None:
        """Gets a new header because the registry answered 401 with this challenge to a request that had the
        header `rejected`. Raises Refused, or a requests exception for a token server that fails."""
        with self._lock:
            if self._header != rejected:
                return  # another thread has renewed it already
            scheme = challenge.split(None, 1)[0].lower() if challenge else ""
            if scheme == "bearer":
                self._header = f"Bearer {self._token(challenge, credentials)}"
            elif scheme == "basic" and credentials:
                self._header = credentials.basic
            elif scheme == "basic":
                raise Refused("it wants a user name and a password")
            else:
                raise Refused(f"it asks for authentication of a kind not known: {scheme or 'none'}")

    def forget(self) -> None:
        """Starts again without a header, for another account."""
        with self._lock:
            self._header = None

    def _token(self, challenge: str, credentials: Credentials | None) -> str:
        fields = {key.lower(): quoted or bare for key, quoted, bare in _PARAMETER.findall(challenge)}
        realm = fields.get("realm", "")
        allowed = ("https", "http") if self._plain_http else ("https",)
        if urlsplit(realm).scheme not in allowed:
            raise Refused(f"its token server {realm!r} is not an https address")
        scope = fields.get("scope") or self._scope
        query = {"service": fields.get("service", ""), "scope": scope}
        if credentials and credentials.identity_token:
            form = {
                **query,
                "grant_type": "refresh_token",
                "client_id": "lazyfs",
                "refresh_token": credentials.identity_token,
            }
            answer = self._session.post(realm, data=form, timeout=self._timeout, stream=True)
        else:
            headers = {"Authorization": credentials.basic} if credentials else {}
            answer = self._session.get(
                realm, params=query, headers=headers, timeout=self._timeout, stream=True
            )
        with answer:
            return self._read_token(answer)

    def _read_token(self, answer: requests.Response) -> str:
        if answer.status_code in (400, 401, 403):
            raise Refused(f"its token server answered {answer.status_code}")
        answer.raise_for_status()
        try:
            found = _answer.decode(bounded(answer, MOST))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TooLong):
            raise Refused("its token server answered without a token") from None
        token = found.token or found.access_token
        if not token:
            raise Refused("its token server answered without a token")
        return token


def bounded(answer: requests.Response, limit: int) -> bytes:
    """A small body, whole. Raises TooLong, or what requests raises for a connection that breaks."""
    data = bytearray()
    for part in answer.raw.stream(PART, decode_content=True):
        data += part
        if len(data) > limit:
            raise TooLong
    return bytes(data)
