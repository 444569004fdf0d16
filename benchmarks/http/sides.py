"""The compared clients. Each fetches a URL as bytes, directly or through a proxy, and keeps its connection
open."""

import io
import time
from collections.abc import Callable
from typing import Protocol

import pycurl
import requests

from lazyfs.transport.attempt import Attempt, Client
from lazyfs.transport.curl_client import CurlClient
from lazyfs.transport.fetcher import never_cancelled
from lazyfs.transport.guard import Limits
from lazyfs.transport.requests_client import RequestsClient


class Side(Protocol):
    """The interface of a compared client."""

    def get(self, url: str, proxy: str | None) -> bytes: ...


class Ours:
    """A client of lazyfs. While it waits, it checks the deadline, the lowest rate and cancellation at short
    intervals."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def get(self, url: str, proxy: str | None) -> bytes:
        attempt = Attempt(url, proxy, 1 << 30, time.monotonic() + 30)
        return self._client.get(attempt, never_cancelled).body


class Session:
    """The library requests, used as its manual shows: a Session and `.content`. It has only a timeout for
    each read."""

    def __init__(self) -> None:
        self._session = requests.Session()
        self._session.trust_env = False

    def get(self, url: str, proxy: str | None) -> bytes:
        proxies = {"http": proxy} if proxy else {}
        return self._session.get(url, proxies=proxies, timeout=30).content


class Curl:
    """The library pycurl: one easy handle, with libcurl's own total timeout and lowest rate, without
    cancellation."""

    def __init__(self) -> None:
        self._handle = pycurl.Curl()

    def get(self, url: str, proxy: str | None) -> bytes:
        handle, body = self._handle, io.BytesIO()
        handle.setopt(pycurl.URL, url)
        handle.setopt(pycurl.PROXY, proxy or "")
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.TIMEOUT_MS, 30_000)
        handle.setopt(pycurl.LOW_SPEED_LIMIT, 1024)
        handle.setopt(pycurl.LOW_SPEED_TIME, 5)
        handle.setopt(pycurl.WRITEDATA, body)
        handle.perform()
        assert handle.getinfo(pycurl.RESPONSE_CODE) == 200
        return body.getvalue()


SIDES: dict[str, Callable[[], Side]] = {
    "lazyfs, requests": lambda: Ours(RequestsClient(Limits())),
    "lazyfs, pycurl": lambda: Ours(CurlClient(Limits())),
    "requests.Session": Session,
    "pycurl": Curl,
}
