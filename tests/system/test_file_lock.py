"""A caller waits for a lock until its deadline, and no longer."""

import fcntl
import threading
from pathlib import Path

from lazyfs.system.file_lock import lock_within

LONG = 60.0


def test_a_free_lock_is_taken_without_waiting_and_keeps_others_out(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as ours, path.open() as theirs:
        assert lock_within(ours.fileno(), 0.0)
        assert not lock_within(theirs.fileno(), 0.0)


def test_a_lock_that_is_never_released_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as ours, path.open() as theirs:
        fcntl.flock(theirs, fcntl.LOCK_SH)
        assert not lock_within(ours.fileno(), 0.1)


def test_a_lock_that_is_released_in_time_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as ours, path.open() as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        release = threading.Timer(0.1, fcntl.flock, (theirs, fcntl.LOCK_UN))
        release.start()
        assert lock_within(ours.fileno(), LONG)
        release.join()
