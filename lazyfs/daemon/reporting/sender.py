"""Sends reports to a collector: one at a time, seldom, and never twice. A collector that does not answer
costs reports and nothing else."""

import http.client
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import trio

from lazyfs.core.start_reports.report import MOST_BODY, StartReport, encode
from lazyfs.daemon.reporting.starts import WatchedStarts
from lazyfs.daemon.reporting.target import ReportTarget

LOOK: Final = 2.0
"""Seconds between two looks for starts that are over."""
PAUSE: Final = 120.0
"""Seconds between two reports."""
REST: Final = 3600.0
"""Seconds until the next report after one that the collector did not accept."""
WAITING: Final = 16
"""The largest number of reports that wait to be sent; the oldest are dropped."""
PATIENCE: Final = 20.0
"""Timeout of each step of a request, in seconds."""

log = logging.getLogger(__name__)


class ReportSender:
    """Sends the reports of one mount."""

    def __init__(
        self,
        target: ReportTarget,
        starts: WatchedStarts,
        *,
        clock: Callable[[], float] = time.monotonic,
        send: "Callable[[ReportTarget, bytes], str] | None" = None,
    ) -> None:
        """`send` sends one report, and returns the reason of a failure or an empty text; `send_report` by
        default."""
        self._target = target
        self._starts = starts
        self._clock = clock
        self._send = send or send_report
        self._waiting: deque[StartReport] = deque(maxlen=WAITING)
        self._next = float("-inf")
        self.sent = 0
        self.failed = 0

    async def run(self) -> None:
        """Sends for ever. Raises nothing but trio.Cancelled."""
        while True:
            await trio.sleep(LOOK)
            try:
                await self.turn()
            except Exception:
                log.exception("reporting starts")

    async def turn(self) -> None:
        """Collects the reports of the starts that are over. If the pause after the last report is over, sends
        the report that has waited longest."""
        self._waiting.extend(self._starts.due(self._clock()))
        if not self._waiting or self._clock() < self._next:
            return
        body = encode(self._waiting.popleft())
        if len(body) > MOST_BODY:
            return
        # abandoned with the mount: the end of a mount waits for no collector
        fault = await trio.to_thread.run_sync(self._send, self._target, body, abandon_on_cancel=True)
        self._next = self._clock() + (REST if fault else PAUSE)
        if fault:
            self.failed += 1
            log.warning("a report of a start was not taken: %s", fault)
        else:
            self.sent += 1


def send_report(target: ReportTarget, body: bytes) -> str:
    """Sends one report. Follows no redirect: the credential is for this host alone. Returns the reason of a
    failure; empty if the report was taken."""
    connection: http.client.HTTPConnection
    if target.tls is not None:
        connection = http.client.HTTPSConnection(
            target.host, target.port, timeout=PATIENCE, context=target.tls
        )
    else:
        connection = http.client.HTTPConnection(target.host, target.port, timeout=PATIENCE)
    headers = {"Content-Type": "application/x-msgpack"}
    if target.token:
        headers["Authorization"] = f"Bearer {target.token}"
    try:
        connection.request("POST", target.path, body, headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    return "" if status // 100 == 2 else f"HTTP status {status}"
