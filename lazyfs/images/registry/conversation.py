"""Requests to one repository of a registry, made by the rules of `core.registry.access` and repeated where
that helps."""

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from urllib.parse import urljoin, urlsplit

from lazyfs.core.errors import LazyfsError, NotFound, TransportError, Unknown, UsageError
from lazyfs.core.oci.reference import HUB, Reference
from lazyfs.core.registry import steps
from lazyfs.core.registry.access import Access, Exchange
from lazyfs.core.registry.challenges import parse_challenges
from lazyfs.core.registry.reasons import MAX_BODY, reason_of, says_unknown
from lazyfs.core.shown_address import shown_address
from lazyfs.images.registry.addresses import origin_of
from lazyfs.images.registry.credentials import Credentials
from lazyfs.images.registry.problems import Failed, proxy_account
from lazyfs.images.registry.replies import retry_after
from lazyfs.images.registry.tokens import Authorizer, Busy, Denied, wiped
from lazyfs.images.registry.wire import Reply, Wire

_NO_HEAD = (405, 501)
"""Answers of servers and proxies that know no HEAD: method not allowed, not implemented."""


def api_host(registry: str) -> str:
    """Returns the host of a registry's API."""
    return f"registry-1.{HUB}" if registry == HUB else registry


class Conversation:
    """The requests to one repository of a registry, from several threads. No state is kept between
    conversations."""

    def __init__(
        self,
        reference: Reference,
        wire: Wire,
        find_account: Callable[[], Credentials | None],
        *,
        plain_http: bool,
        allow_private: bool,
        address: str = "",
        permission: str = "--allow-public",
        account_shown: str = "",
        pause: Callable[[float], None] = time.sleep,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`find_account`: called at most once, when an anonymous request is refused. `allow_private`: True to
        allow images that only an account may read. `permission`: the option for this, as messages name it.
        `account_shown`: the account's name in messages that strangers read, in place of its user name.
        `address`: the host[:port] of the registry's API, if it is not the one in the registry's name. `wall`:
        seconds since 1970."""
        self._reference = reference
        self._wire = wire
        self._find_account = find_account
        self._account: Credentials | None = None
        self._allow_private = allow_private
        self._permission = permission
        self._account_shown = account_shown
        self._pause = pause
        self._wall = wall
        scheme = "http" if plain_http else "https"
        self.api = f"{scheme}://{address or api_host(reference.registry)}/v2/"
        self.base = f"{self.api}{reference.repository}/"
        scope = f"repository:{reference.repository}:pull"
        self._authorizer = Authorizer(wire, scope, plain_http=plain_http, wall=wall)
        self._access = Access()
        self._no_head = False
        self._lock = threading.Lock()
        self._asking = threading.Lock()

    @property
    def privacy(self) -> steps.Privacy:
        """The privacy of the repository, as all requests so far have shown it."""
        return self._access.privacy

    @property
    def account_answered(self) -> bool:
        """True if the registry accepted the account: it served a request made with the account, or answered
        such a request with 404."""
        return self._access.account_answered

    def request(
        self,
        path: str,
        kind: steps.Kind,
        headers: Mapping[str, str] | None = None,
        *,
        hashed: bool = False,
        method: str = "GET",
    ) -> Reply:
        """Returns a successful answer, its body unread. `path`: the path below the address that the
        registry's API has for the repository. `kind`: the purpose of the request. `hashed`: True if the body
        will be compared with a digest. `method`: GET or HEAD. If the registry answers 405 or 501 to HEAD,
        returns the answer to a GET, with its body.

        Raises UsageError if the registry refuses anonymous requests and the account, or if only an account
        may read and `allow_private` is not set; NotFound; TransportError.
        """
        url = urljoin(self.base, path)
        exchange = Exchange(self._access, kind)
        step: steps.Step = self._now(exchange.start)
        reply: Reply | None = None
        while True:
            match step:
                case steps.Send(header):
                    reply, step = self._send(
                        exchange, url, headers or {}, header, hashed=hashed, method=method
                    )
                case steps.Ask():
                    step = self._ask(exchange, step)
                case steps.Ping():
                    step = self._ping(exchange)
                case steps.FindAccount():
                    self._account = self._find_account()
                    step = self._now(partial(exchange.account, found=self._account is not None))
                case steps.Pause(seconds):
                    self._pause(seconds)
                    step = self._now(exchange.start)
                case steps.Serve():
                    assert reply is not None
                    self._check_allowed(reply)
                    return reply
                case steps.Stop():
                    raise self._failure(step, path)

    def _now(self, transition: Callable[[], steps.Step]) -> steps.Step:
        """Calls `transition`, which changes what all threads have learned of the repository's access, in one
        thread at a time. Returns the next step."""
        with self._lock:
            return transition()

    def _send(
        self,
        exchange: Exchange,
        url: str,
        headers: Mapping[str, str],
        header: str | None,
        *,
        hashed: bool,
        method: str,
    ) -> tuple[Reply | None, steps.Step]:
        everything = {**headers, "Authorization": header} if header else headers
        try:
            reply = self._wire.get(url, everything, hashed=hashed, method=self._spoken(method))
            if method == "HEAD" and reply.status in _NO_HEAD:
                reply.close()
                self._no_head = True
                reply = self._wire.get(url, everything, hashed=hashed)
        except Failed as error:
            return None, self._now(partial(exchange.broke, *error.problem))
        if 200 <= reply.status < 300:
            return reply, self._now(lambda: exchange.answered(steps.Answer(reply.status)))
        answer = self._answer(reply)
        if reply.status == 407:
            return None, self._now(partial(exchange.broke, *proxy_account(str(reply.origin))))
        if reply.origin != origin_of(url):
            # A 403 of storage means that a signed address has expired, not that the account may not pull.
            reason = f": {answer.reason}" if answer.reason else ""
            problem = f"{reply.origin} answers {answer.status}{reason}"
            lasting = 400 <= answer.status < 500 and answer.status not in (401, 403, 408, 429)
            return None, self._now(partial(exchange.broke, problem, lasting))
        return reply, self._now(lambda: exchange.answered(answer))

    def _spoken(self, method: str) -> str:
        """Returns the method to use: GET in place of HEAD once the registry has refused HEAD."""
        return "GET" if self._no_head else method

    def _ask(self, exchange: Exchange, step: steps.Ask) -> steps.Step:
        """Gets the token that a step asks for; returns the next step. Works in one thread at a time: threads
        that have waited use the same token."""
        with self._asking:
            current = self._access.headers.get(step.identity)
            if current is not None and current != step.rejected:
                return self._now(lambda: exchange.granted(current, fresh=False))
            try:
                field = self._authorizer.field(step, self._account)
            except Denied as denied:
                answer = denied.answer
                return self._now(lambda: exchange.denied(step.challenge, answer))
            except Busy as busy:
                answer = busy.answer
                return self._now(lambda: exchange.token_server_busy(step, answer))
            except Failed as error:
                return self._now(partial(exchange.broke, *error.problem, asked=step))
            return self._now(lambda: exchange.granted(field))

    def _ping(self, exchange: Exchange) -> steps.Step:
        try:
            reply = self._wire.get(self.api, {})
        except Failed as error:
            return self._now(partial(exchange.broke, *error.problem))
        answer = self._answer(reply)
        if answer.status == 429 or answer.status >= 500:
            return self._now(partial(exchange.broke, f"{self.api} answers {answer.status}", hopeless=False))
        # A challenge of a server that the API redirects to would name where the account is sent.
        challenges = answer.challenges if reply.origin == origin_of(self.api) else ()
        return self._now(lambda: exchange.pinged(challenges))

    def _answer(self, reply: Reply) -> steps.Answer:
        """Returns the facts of an unsuccessful answer, after reading and closing its body."""
        challenges = parse_challenges(", ".join(reply.headers.getlist("WWW-Authenticate")))
        try:
            with reply:
                body = reply.small(MAX_BODY)
        except LazyfsError:
            body = b""
        reason = reason_of(body)
        for header in list(self._access.headers.values()):
            reason = reason.replace(header.partition(" ")[2], "***")
        if reply.status == 400 and "HTTP request" in reason and "HTTPS" in reason:
            reason += ": leave out --plain-http"
        wait = retry_after(reply.headers, self._wall())
        return steps.Answer(reply.status, challenges, wait, wiped(reason, self._account), says_unknown(body))

    def _check_allowed(self, reply: Reply) -> None:
        if self._allow_private or self._access.privacy is not steps.Privacy.PRIVATE:
            return
        reply.close()
        raise UsageError(
            f"{self._reference} is private, but every client that reaches the repository could read it: "
            f"publish it into one whose web server asks for a login, and confirm that with {self._permission}"
        )

    def _failure(self, stop: steps.Stop, path: str) -> Exception:
        reference, reason = self._reference, f": {stop.reason}" if stop.reason else ""
        server = "its token server" if stop.at_token_server else "the registry"
        if stop.outcome is steps.Outcome.MISSING:
            also = ""
            if self._access.account_refused:
                also = f", or hides it: it refuses {self._who()} ({self._access.account_refused})"
            certain = stop.unknown and not self._access.account_refused
            kind_of = Unknown if certain else NotFound
            return kind_of(f"{reference}: the registry has no {shown_address(path)}{reason}{also}")
        if stop.outcome is steps.Outcome.REFUSED:
            who = self._who() if stop.identity is steps.Identity.ACCOUNT else "an anonymous pull"
            said = stop.reason or f"it answered {stop.status}"
            return UsageError(
                f"{reference}: the registry refuses {who} ({said}): log in with docker or podman login, "
                "or give --username and --password-file"
            )
        if stop.outcome is steps.Outcome.BUSY:
            kind = "it limits the rate of requests" if stop.status == 429 else "it fails"
            asked = f" and asks to wait {stop.wait:.0f} s" if stop.wait else ""
            said = "" if stop.at_token_server else reason  # the token server's reason has its status already
            also = (
                f"; {self._who()} is refused ({refused})" if (refused := self._access.account_refused) else ""
            )
            return TransportError(
                f"{reference}: {server} answers {stop.status} ({kind}){said}{asked}{also}: try again later"
            )
        if stop.outcome is steps.Outcome.FAILED:
            return TransportError(
                f"{reference}: the registry answers {stop.status} to {shown_address(path)}{reason}"
            )
        times = f", {stop.attempts} times" if stop.outcome is steps.Outcome.BROKEN else ""
        return TransportError(f"{reference}: {stop.reason}{times}")

    def _who(self) -> str:
        if self._account_shown:
            return self._account_shown
        name = self._account.username if self._account else ""
        return f"the account {name!r}" if name else "the account's token"


def registry_names(registry: str, plain_http: bool) -> tuple[str, ...]:
    """Returns the names under which certs.d may have a folder for a registry."""
    host = api_host(registry)
    names = [registry, host]
    if not urlsplit(f"//{host}").port:
        names.append(f"{host}:{80 if plain_http else 443}")
    return tuple(dict.fromkeys(names))
