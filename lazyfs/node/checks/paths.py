"""Checks every way from this machine to the stores: each origin over each proxy, with one small request."""

import contextlib
import email.utils
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import NamedTuple

import msgspec

from lazyfs.core.chain.faults import PEER, AttemptFailed, Fault
from lazyfs.core.chain.notation import DIRECT, parse_origins, parse_proxies, redact
from lazyfs.core.errors import UsageError
from lazyfs.daemon.wanted_settings import WantedSettings
from lazyfs.node.findings import Finding, Level
from lazyfs.node.surroundings import Surroundings
from lazyfs.transport.attempt import Attempt
from lazyfs.transport.fetcher import never_cancelled
from lazyfs.transport.guard import Limits
from lazyfs.transport.requests_client import RequestsClient
from lazyfs.transport.tls import Tls
from lazyfs.transport.tls_files import TlsFiles

MOST = 128
"""The largest number of ways that are tried. A site of fifty repositories on one origin over two proxies has
a hundred."""
_AT_ONCE = 64
_SECONDS = 8.0
_LIMITS = Limits(connect=3.0, silence=4.0)
_STAMP = "metadata/timestamp.json"
_LARGEST = 64 << 10

_MENDS: Mapping[Fault, str] = {
    Fault.REFUSED: "start the server, or correct host and port",
    Fault.UNREACHABLE: "mend the route or the firewall on the way, or correct the address",
    Fault.CONNECT: "start its machine, or have the firewall on the way let the port through",
    Fault.SILENT: "restart it: it takes connections and does not answer",
    Fault.CLOSED: "look into its log: it closes connections without an answer",
    Fault.UNTRUSTED: "name the CA that signed its certificate with --ca FILE",
    Fault.EXPIRED: "renew its certificate; if the date is wrong, see the clock",
    Fault.MISNAMED: "use the name that its certificate has",
    Fault.SCHEME: "write http:// for https://, or the other way round",
    Fault.IDENTITY: "give the certificate that it wants with --client-cert and --client-key",
    Fault.TUNNEL: "have the proxy allow CONNECT to the origin's port (acl SSL_ports in squid.conf)",
    Fault.REDIRECT: "give the address it leads to; if that is a login page, log this machine in",
    Fault.MISSING: "correct the URL: there is no repository at it",
    Fault.ACCOUNT: "have it let readers in, or put the account into the URL with @FILE",
    Fault.DENIED: "have the proxy or the origin let this machine in (http_access in squid.conf)",
    Fault.PROXY_ACCOUNT: "give the account: --proxy @FILE with http://USER:PASSWORD@HOST:PORT",
    Fault.UNAVAILABLE: "start the origin, or what the proxy asks",
    Fault.PORTAL: "log this machine in at the network's portal, or correct the URL",
    Fault.BAD_CONTENT: "correct the URL; if it is right, empty the cache of the proxy on the way",
}


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """One origin over one proxy, or a store directory, and the outcome of a request."""

    proxy: str = DIRECT
    origin: str
    """The origin, without an account."""
    fault: Fault | None = None
    detail: str = ""
    by_origin: bool = False
    """True if a proxy reported that the fault lies with the origin."""
    offset: float | None = None
    """Seconds by which the origin's clock is ahead of this machine's."""
    asked: float = 0.0
    """The time of the answer by this machine's clock, in seconds since 1970."""
    expires: float | None = None
    """The expiry, in seconds since 1970, that the store's timestamp.json states; the signature of this file
    is not verified."""


class _Request(NamedTuple):
    proxy: str
    origin: str
    tls: TlsFiles


def gather(found: Surroundings) -> list[Way]:
    """Tries all ways side by side, and returns them with the outcomes. Takes no longer than 8 s."""
    wanted = dict.fromkeys(request for settings in found.wanted for request in _requests(settings))
    deadline = time.monotonic() + _SECONDS
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return list(threads.map(lambda request: _try(request, deadline), list(wanted)[:MOST]))


def judge(facts: list[Way]) -> Iterator[Finding]:
    """Yields the findings. A proxy is to blame if no request over it succeeds, and if either the fault is its
    own, or one of the origins that were asked over it can be reached in another way. Ways over such a proxy
    are then left aside. An origin is to blame if all remaining ways to it fail. If only some of them fail,
    each of these ways is to blame."""
    blamed = set()
    for proxy in dict.fromkeys(way.proxy for way in facts if way.proxy != DIRECT):
        over = [way for way in facts if way.proxy == proxy]
        if any(way.fault is None for way in over):
            continue
        own = [way for way in over if way.fault in PEER and not way.by_origin]
        reached = {way.origin for way in facts if way.fault is None}
        if own or any(way.origin in reached for way in over):
            blamed.add(proxy)
            yield from _finding(f"proxy {proxy}", (own or over)[0])
    for origin in dict.fromkeys(way.origin for way in facts):
        to = [way for way in facts if way.origin == origin and way.proxy not in blamed]
        failed = [way for way in to if way.fault is not None]
        if failed and len(failed) == len(to):
            over_proxy = f" over proxy {failed[0].proxy}" if failed[0].proxy != DIRECT else ""
            yield from _finding(f"origin {origin}{over_proxy}", failed[0])
        else:
            for way in failed:
                by = f"proxy {way.proxy}" if way.proxy != DIRECT else "without a proxy"
                yield from _finding(f"origin {origin}, {by}", way)


def _finding(subject: str, way: Way) -> Iterator[Finding]:
    fault = way.fault
    if fault is None or (fault is Fault.DNS and not way.by_origin):  # the check of names reports it
        return
    detail = f" ({way.detail})" if way.detail and way.detail not in fault.value else ""
    do = _MENDS.get(fault, "look into its log; docs/chain.md says what each fault means")
    yield Finding(Level.ERROR, f"{subject}: {fault.value}{detail}", do)


def hosts(found: Surroundings) -> list[str]:
    """Returns the names that this machine itself must resolve: those of proxies, and those of origins if they
    are asked without a proxy."""
    named = [
        request.origin if request.proxy == DIRECT else request.proxy
        for settings in found.wanted
        for request in _requests(settings)
        if "://" in request.origin
    ]
    places = [redact(url).partition("://")[2].partition("/")[0] for url in named]
    names = [place.rpartition(":")[0] if place.rpartition(":")[2].isdigit() else place for place in places]
    return list(dict.fromkeys(name for name in names if name and not name.startswith("[")))


def _requests(wanted: WantedSettings) -> Iterator[_Request]:
    settings = wanted.settings
    if settings.is_site():
        sources = settings.sources()
    else:
        sources = {os.path.basename(settings.mountpoint): settings.single_source()}
    for name, source in sources.items():
        tls = TlsFiles(source.ca, source.client_cert, source.client_key)
        if "://" not in source.url:
            yield _Request(DIRECT, source.url, tls)
            continue
        with contextlib.suppress(UsageError):  # the mount itself reports a faulty setting
            proxies = [one for group in parse_proxies(source.proxy or DIRECT) for one in group]
            for origin in parse_origins(source.url, name):
                for proxy in proxies:
                    yield _Request(proxy, origin, tls)


def _try(request: _Request, deadline: float) -> Way:
    proxy, origin = redact(request.proxy), redact(request.origin)
    if "://" not in request.origin:
        there = os.path.isfile(os.path.join(request.origin, _STAMP))
        return Way(origin=origin, fault=None if there else Fault.MISSING, detail="a store directory")
    try:
        secure = "https:" in request.proxy + request.origin
        client = RequestsClient(_LIMITS, tls=Tls(request.tls) if secure else None)
    except UsageError as error:
        return Way(proxy=proxy, origin=origin, fault=Fault.TLS, detail=str(error))
    try:
        over = None if request.proxy == DIRECT else request.proxy
        url = f"{request.origin}/{_STAMP}"
        answer = client.get(Attempt(url, over, _LARGEST, deadline, no_cache=True), never_cancelled)
    except AttemptFailed as failure:
        detail = str(failure).partition(": ")[2]
        return Way(
            proxy=proxy, origin=origin, fault=failure.fault, detail=detail, by_origin=failure.by_origin
        )
    finally:
        client.close()
    expires = _expiry(answer.body)
    if expires is None:
        fault = Fault.PORTAL if answer.html else Fault.BAD_CONTENT
        return Way(proxy=proxy, origin=origin, fault=fault)
    now = time.time()
    offset = None if answer.from_cache else _offset(answer.date, now)
    return Way(proxy=proxy, origin=origin, offset=offset, asked=now, expires=expires)


def _offset(date: str, now: float) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() - now
    except ValueError:
        return None


def _expiry(body: bytes) -> float | None:
    """Returns the expiry that a timestamp.json states; None if the bytes are something else."""
    try:
        return datetime.fromisoformat(json.loads(body)["signed"]["expires"]).timestamp()
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None


def offsets(facts: Sequence[Way]) -> list[float]:
    """Returns the seconds by which the origins' clocks are ahead of this machine's, one number for each way
    whose answer shows them."""
    return [way.offset for way in facts if way.offset is not None]
