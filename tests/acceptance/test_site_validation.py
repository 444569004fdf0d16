"""The simulated site (benchmarks/site) counts what real mounts, squids and an nginx count in the same day."""

import pytest

from benchmarks.site import report
from benchmarks.site.validation import MOUNTS, validate

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(1800)]


def test_simulated_and_counted_requests_and_bytes_agree() -> None:
    found = validate()
    assert found.mounts == MOUNTS == 16
    assert found.counted.proxy_requests > 4 * found.counted.origin_requests > 1000
    assert report.too_far(found) == [], report.validated(found)
