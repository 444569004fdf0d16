"""The times at which a profile is begun, and the bound on what is remembered of them."""

import pytest

from lazyfs.core.digest import sha256
from lazyfs.prefetch import profile_schedule
from lazyfs.prefetch.profile_schedule import AGAIN, PROFILES, TRIES, ProfileSchedule

IMAGE = sha256(b"profile")


def test_only_so_many_starts_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: each program name that a user of a node gave to `lazyfs run` was remembered until the
    mount's end."""
    most = 20
    monkeypatch.setattr(profile_schedule, "REMEMBERED", most)
    schedule = ProfileSchedule()
    running = IMAGE, "runs for long"
    assert schedule.begin(running, 0.0)
    for number in range(10 * most):
        start = IMAGE, f"{number}"
        assert schedule.begin(start, 0.0)
        schedule.failed(start, 0.0)
        schedule.ended(start)
        assert not schedule.begin(start, 0.0), "it rests"
        assert max(len(schedule._rests), len(schedule._failed)) <= most
    assert not schedule.begin(running, 0.0), "it is under way"
    assert schedule.begin((IMAGE, "0"), 0.0), "it is forgotten"


def test_a_start_that_fails_rests_longer_each_time_and_then_for_ever() -> None:
    schedule, start, now = ProfileSchedule(), (IMAGE, ""), 0.0
    for tries in range(TRIES):
        assert schedule.begin(start, now)
        schedule.ended(start)
        schedule.failed(start, now)
        assert not schedule.begin(start, now + AGAIN * 2**tries - 1)
        now += AGAIN * 2**tries
    assert not schedule.begin(start, now * 1000)


def test_only_so_many_are_under_way_at_a_time() -> None:
    schedule = ProfileSchedule()
    starts = [(IMAGE, f"{number}") for number in range(PROFILES + 1)]
    assert [schedule.begin(start, 0.0) for start in starts] == [True] * PROFILES + [False]
    schedule.ended(starts[0])
    assert schedule.begin(starts[-1], 0.0)
