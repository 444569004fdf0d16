"""Answers to a registry's challenge: Basic, or a Bearer token from its token server.

Protocol: distribution-spec and docs/spec/auth/token.md of the distribution project.
"""

import re
import threading
from typing import Any
from urllib.parse import urlsplit

import requests

from lazyfs.core.errors import TransportError
from lazyfs.images.registry.credentials import Credentials

_PARAMETER = re.compile(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


class Refused(TransportError):
    """The registry or its token server does not let this account (or nobody) in."""


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
            answer = self._session.post(realm, data=form, timeout=self._timeout)
        else:
            headers = {"Authorization": credentials.basic} if credentials else {}
            answer = self._session.get(realm, params=query, headers=headers, timeout=self._timeout)
        if answer.status_code in (400, 401, 403):
            raise Refused(f"its token server answered {answer.status_code}")
        answer.raise_for_status()
        try:
            document: dict[str, Any] = answer.json()
            token = document.get("token") or document["access_token"]
        except (ValueError, KeyError, AttributeError):
            raise Refused("its token server answered without a token") from None
        return str(token)
