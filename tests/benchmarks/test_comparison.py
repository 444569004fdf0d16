"""The comparison of lazyfs's sides with the same sides of another revision, in a result of the startup
benchmark."""

import msgspec

from benchmarks.startup.comparison import document
from benchmarks.startup.plan import COLD, WARM_NODE, full, other, with_revision
from benchmarks.startup.start import Start
from tests.benchmarks.test_startup_report import result, start

THEIRS = "af0a6fc"


def measured(seconds: float, cpu: float, requests: int) -> Start:
    return msgspec.structs.replace(
        start(seconds), cpu_seconds=cpu, cpu_to_fetch=cpu / 10, requests=requests, waits=requests // 2
    )


def test_ratios_are_those_of_medians_and_starts_are_compared_in_pairs() -> None:
    text = document(
        result(
            (COLD, [measured(5, 4, 400), measured(6, 4, 400), measured(9, 4, 400)]),
            (other(COLD, THEIRS), [measured(10, 8, 3000), measured(12, 8, 3000), measured(8, 8, 3000)]),
            (WARM_NODE, [measured(2, 2, 2)]),
            (other(WARM_NODE, THEIRS), [measured(4, 3, 2)]),
        )
    )
    assert (
        "| lazyfs cold | 2 of 3 | 0.60 | 0.50 | 0.50 | 400 / 3,000 | 200 / 1,500 | 25.0 / 25.0 = 1.00 |"
        in text
    )
    assert "| lazyfs, warm node cache | 1 of 1 | 0.50 | 0.67 |" in text
    assert "| 2.00 s: 5,000 us an object, 80.0 ms an MB | 5.00 s: 1,667 us an object" in text
    assert text.rstrip().endswith("| 0.40 |")


def test_a_result_of_one_revision_has_no_comparison() -> None:
    assert document(result((COLD, [start(1)]))) == ""


def test_only_what_the_other_revision_can_do_in_time_is_asked_of_it() -> None:
    for case in with_revision(full(), THEIRS):
        long_read = case.workload == "read everything" and case.line.rtt_ms > 0
        assert (other(COLD, THEIRS) in case.sides) is (COLD in case.sides and not long_read)
