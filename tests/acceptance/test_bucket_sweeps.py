"""Two publishers and a garbage collection work concurrently on a real S3 server. A proxy injects faults, and
the clock jumps."""

import os
import random
import threading
import time
from pathlib import Path

import pytest

from tests.support.bucket_repository import BucketRepository
from tests.support.counts import count
from tests.support.radosgw import Radosgw
from tests.support.s3_faults import CUT, INTERNAL, LOST, NONE, SLOW_DOWN, Fault, S3Faults, S3Request
from tests.support.sweeps import Images, Sweeps

FAULTS = {CUT: 0.01, LOST: 0.02, INTERNAL: 0.02, SLOW_DOWN: 0.02}
"""Fault -> the fraction of the requests that meet it."""


@pytest.mark.timeout(1800)
def test_no_commit_is_lost_and_every_image_is_whole(s3_server: Radosgw, tmp_path: Path) -> None:
    seed = os.environ.get("LAZYFS_SEED", "bucket")
    draw = random.Random(seed)
    mutex = threading.Lock()
    lost_commits = [0]

    def rule(request: S3Request) -> Fault:
        with mutex:
            fault = draw.choices([NONE, *FAULTS], [1 - sum(FAULTS.values()), *FAULTS.values()])[0]
            lost_commits[0] += fault is LOST and request.is_write_of == "timestamp.json"
            return fault

    with S3Faults(s3_server, rule) as proxy:
        repository = BucketRepository(s3_server, proxy.url, keep_days=0)
        sweeps = Sweeps(
            repository,
            Images(tmp_path),
            seed,
            count(2, 25),
            lambda _actor: time.sleep(0.001),
            lambda _actor: None,
        )
        sweeps.run()
        seen = {fault: proxy.faults.count(fault) for fault in FAULTS}
    sweeps.assert_nothing_lost(lost_commits[0])
    assert min(seen.values()) > 0
