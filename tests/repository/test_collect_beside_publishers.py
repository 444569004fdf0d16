"""Two publishers and a garbage collection run concurrently. Their operations interleave at random, and the
clock sometimes jumps past a lease. No commit is lost, and every image of each newest revision is complete."""

import os
import random
from pathlib import Path

import pytest

from tests.support.counts import count
from tests.support.memory_repository import MemoryRepository
from tests.support.sweeps import Images, Sweeps
from tests.support.turns import Turns


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("number", range(count(1, 5)))
def test_no_commit_is_lost_and_every_image_is_whole(tmp_path: Path, number: int) -> None:
    seed = f"{os.environ.get('LAZYFS_SEED', 'sweeps')}{number}"
    turns = Turns(["one", "two", "collector"], random.Random(seed + "turns"))
    repository = MemoryRepository(keep_days=0)
    sweeps = Sweeps(repository, Images(tmp_path), seed, count(5, 25), turns.step, turns.leave)
    sweeps.run()
    sweeps.assert_nothing_lost()
