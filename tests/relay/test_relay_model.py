"""The relay's arithmetic, compared with a real path of the same delay and bandwidth."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.relay.model import IDLE_RESTART, INITIAL_WINDOW, LARGEST_WINDOW, Flow, Path

RATE = 12_500_000.0
ROUND_TRIPS = st.sampled_from([0.0, 0.01, 0.05, 0.15])
SIZES = st.lists(st.integers(1, 1 << 20), min_size=1, max_size=30)


def _download(flow: Flow, begin: float, size: int) -> float:
    """Returns the time at which the last byte arrives from a sender that always has more to send."""
    now, arrived = begin, begin
    while size:
        room = min(flow.room(now), size, 64 << 10)
        if not room:
            now = flow.room_again()
            continue
        arrived = flow.send(now, room)
        size -= room
    return arrived


def test_first_byte_of_an_answer_comes_after_the_handshake_and_a_round_trip() -> None:
    up, down = Path(0.05, RATE).connect(now=10.0)
    assert up.room(10.0) == 0
    request_arrives = up.send(up.room_again(), 0)
    assert request_arrives == pytest.approx(10.0 + 0.05 + 0.025)
    assert down.send(request_arrives, 0) == pytest.approx(10.0 + 2 * 0.05)


@given(ROUND_TRIPS, SIZES)
def test_wide_open_windows_leave_line_rate_plus_half_a_round_trip(
    round_trip: float, sizes: list[int]
) -> None:
    _, down = Path(round_trip, RATE, slow_start=False).connect(now=-1.0)
    arrived = 0.0
    for size in sizes:
        arrived = down.send(0.0, size)
    assert arrived == pytest.approx(sum(sizes) / RATE + round_trip / 2)


@given(ROUND_TRIPS, st.lists(st.tuples(st.integers(0, 4), st.integers(1, 1 << 20)), min_size=1, max_size=40))
def test_connections_together_get_no_more_than_the_bottleneck(
    round_trip: float, offers: list[tuple[int, int]]
) -> None:
    path = Path(round_trip, RATE, slow_start=False)
    flows = [path.connect(now=-1.0)[1] for _ in range(5)]
    last = max(flows[which].send(0.0, size) for which, size in offers)
    assert last == pytest.approx(sum(size for _, size in offers) / RATE + round_trip / 2)


@given(ROUND_TRIPS, SIZES)
def test_bytes_arrive_in_order(round_trip: float, sizes: list[int]) -> None:
    _, down = Path(round_trip, RATE, slow_start=False).connect(now=-round_trip)
    arrivals = [down.send(0.001 * number, size) for number, size in enumerate(sizes)]
    assert arrivals == sorted(arrivals)


def test_a_request_on_a_new_connection_delays_no_other() -> None:
    """Regression: bytes for a connection whose handshake was under way held the bottleneck until its end."""
    path = Path(0.05, RATE)
    old, _ = path.connect(now=0.0)
    new, _ = path.connect(now=10.0)
    assert new.room(10.0) == 0
    assert old.send(10.0, 125) == pytest.approx(10.0 + 125 / RATE + 0.025)
    assert new.send(new.room_again(), 125) == pytest.approx(10.05 + 125 / RATE + 0.025)


def test_directions_do_not_share_the_bottleneck() -> None:
    up, down = Path(0.0, RATE).connect(now=0.0)
    up.send(0.0, 10_000_000)
    assert down.send(0.0, 125) == pytest.approx(125 / RATE)


@pytest.mark.parametrize("windows", [1, 3, 7, 15])
def test_slow_start_doubles_each_round_trip(windows: int) -> None:
    # 1+2+4+8 initial windows take four flights. A line far wider than the window adds no time.
    _, down = Path(0.1, 1e12).connect(now=-0.05)
    flights = int(math.log2(windows + 1))
    arrived = _download(down, 0.0, windows * INITIAL_WINDOW)
    assert arrived == pytest.approx((flights - 1) * 0.1 + 0.05, abs=1e-6)


def test_a_long_download_reaches_line_rate() -> None:
    size = 100_000_000
    _, down = Path(0.05, RATE).connect(now=-0.05)
    ideal = size / RATE
    assert ideal < _download(down, 0.0, size) < ideal + 1.0


def test_silence_longer_than_a_timeout_closes_the_window_again() -> None:
    _, down = Path(0.05, RATE).connect(now=-0.05)
    end = _download(down, 0.0, 10_000_000)
    assert down.room(end + 0.05) > INITIAL_WINDOW
    assert down.room(end + 0.05 + IDLE_RESTART + 0.1) == INITIAL_WINDOW


@given(ROUND_TRIPS, SIZES)
def test_a_window_is_never_overrun(round_trip: float, sizes: list[int]) -> None:
    _, down = Path(round_trip, RATE).connect(now=0.0)
    now = 0.0
    for size in sizes:
        room = down.room(now)
        assert 0 <= room <= LARGEST_WINDOW
        if room:
            now = max(now, down.send(now, min(size, room)) - round_trip / 2)
        else:
            now = down.room_again()
            assert down.room(now) > 0
