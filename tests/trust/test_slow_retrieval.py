"""The attack "slow retrieval": a refresh has one deadline for all its files, and can be cancelled."""

import threading
import time
from pathlib import Path

import pytest

from lazyfs.client.trust.revisions import Revisions
from lazyfs.core.errors import DeadlineExceeded
from lazyfs.transport.fetcher import Request, never_cancelled
from tests.support.simulated_repository import SimulatedRepository


@pytest.mark.parametrize("name", ["timestamp.json", "2.root.json", "2.snapshot.json", "2.targets.json"])
def test_every_request_carries_the_deadline_of_the_refresh(
    repository: SimulatedRepository, client: Revisions, name: str
) -> None:
    before = client.serving(repository.now)
    repository.publish()

    def slow(request: Request, body: bytes | None) -> bytes | None:
        assert request.deadline == 1234.5
        if request.path.endswith(name):
            raise DeadlineExceeded(f"{request.path}: one byte a second")
        return body

    repository.tamper = slow
    with pytest.raises(DeadlineExceeded, match=f"{name}: one byte a second"):
        client.refresh(repository.now, 1234.5)
    assert client.serving(repository.now) == before
    assert client.report(repository.now).error == f"metadata/{name}: one byte a second"


class Waiting:
    """A Fetcher whose server never answers: it waits until it is cancelled, as HttpFetcher does."""

    def __init__(self, under_way: threading.Semaphore) -> None:
        self.under_way = under_way

    def fetch(self, request: Request, check_cancelled: object = never_cancelled) -> bytes:
        assert callable(check_cancelled)
        self.under_way.release()
        end = time.monotonic() + 30
        while time.monotonic() < end:
            check_cancelled()
            time.sleep(0.01)
        raise DeadlineExceeded(request.path)

    def close(self) -> None:
        """Does nothing: this fetcher holds no resources."""


class Cancelled(BaseException):
    """Stands for trio's cancellation error."""


def test_a_refresh_under_way_can_be_cancelled(repository: SimulatedRepository, tmp_path: Path) -> None:
    under_way = threading.Semaphore(0)
    client = Revisions(Waiting(under_way), str(tmp_path / "trust"), repository.fingerprint())
    cancel = threading.Event()
    ended: list[BaseException] = []

    def check() -> None:
        if cancel.is_set():
            raise Cancelled

    def refresh() -> None:
        try:
            client.refresh(repository.now, float("inf"), check)
        except BaseException as error:  # noqa: BLE001
            ended.append(error)

    thread = threading.Thread(target=refresh)
    thread.start()
    for _ in range(3):  # requests for both roots and the timestamp
        assert under_way.acquire(timeout=10)
    cancel.set()
    thread.join(10)
    assert [type(error) for error in ended] == [Cancelled]
