import subprocess
import sys

import msgspec
import pytest

from benchmarks.facts import Facts
from benchmarks.processes.gil import LockSampler
from benchmarks.processes.operations import Operation, durations
from benchmarks.processes.programs import BATCHES, COUNT
from benchmarks.processes.report import bounds, tables
from benchmarks.processes.result import Case, Result, Starts
from benchmarks.processes.sides import DIRECT, SIDES, SQUASHFUSE, SQUASHFUSE_GZIP, TREE
from benchmarks.startup.images import BenchmarkImage

FACTS = Facts("some CPU", 2, 8 << 30, "6.18", "Debian", "3.11", "abc1234")
IMAGE = BenchmarkImage("analysis", "", entries=1, unpacked_bytes=1, compressed_bytes=1, layers=1)
TRACE = """
 python3-11 [000] ..... 5.000010: fuse_request_send: connection 41 req 2 opcode 1 (FUSE_LOOKUP) len 47
 python3-12 [001] ..... 5.000020: fuse_request_send: connection 41 req 4 opcode 1 (FUSE_LOOKUP) len 47
 python3-12 [001] ..... 5.000025: fuse_request_send: connection 41 req 6 opcode 2 (FUSE_FORGET) len 48
 fuse-13    [000] ..... 5.000030: fuse_request_end: connection 41 req 2 len 144 error 0
 fuse-13    [000] ..... 5.000120: fuse_request_end: connection 41 req 4 len 16 error -2
 fuse-13    [000] ..... 5.000130: fuse_request_end: connection 41 req 8 len 16 error 0
"""


def starts(programs: float, server: float, held: float = 0.0) -> Starts:
    return Starts(2.0, programs, server, {"READ": Operation(1000, 50, 200, 300)}, held, 7 if held else 0)


def result(direct_warm: float, direct_cold: float) -> Result:
    cases = [Case("one program", side, [starts(10, 6)], [starts(10, 0)]) for side in SIDES]
    replaced = {
        TREE: Case("one program", TREE, [], [starts(10, 0)]),
        DIRECT: Case("one program", DIRECT, [starts(10, direct_cold - 10, 0.25)], [starts(direct_warm, 0)]),
    }
    cases = [replaced.get(case.side, case) for case in cases]
    return Result("processes", "python -m benchmarks.processes", FACTS, IMAGE, COUNT, cases)


def test_requests_are_paired_by_number_and_those_without_an_answer_left_out() -> None:
    assert durations(TRACE) == {"LOOKUP": Operation(2, 20.0, 100.0, 100.0)}


def test_each_batch_has_a_process_for_each_command() -> None:
    for batch in BATCHES:
        assert len(batch.commands) == COUNT
    assert [len(set(batch.commands)) for batch in BATCHES] == [1, COUNT, COUNT]


def test_bounds_are_ratios_of_the_processor_time_of_programs_and_server() -> None:
    found = {bound.text: bound for bound in bounds(result(direct_warm=12, direct_cold=12))}
    warm = found["one program: warm pages, of the unpacked tree"]
    assert (round(warm.ratio, 6), warm.limit) == (1.2, 1.3)
    for side in (SQUASHFUSE, SQUASHFUSE_GZIP):
        cold = found[f"one program: cold pages, of {side}"]
        assert [round(value, 6) for value in (cold.ratio, cold.limit, cold.floor)] == [0.75, 0.5, 0.625]


def test_tables_name_what_is_missed_and_how_long_a_request_holds_the_lock() -> None:
    text = "\n".join(tables(result(direct_warm=14, direct_cold=12)))
    assert "| one program: warm pages, of the unpacked tree | 1.40 (missed) | 1.3 | 1.00 |  |" in text
    cold = f"one program: cold pages, of {SQUASHFUSE}"
    assert f"| {cold} | 0.75 (missed, as by any file system) | 0.5 | 0.62 | 0.33 |" in text
    assert "- one program: warm pages, of the unpacked tree: missed by 8%." in text
    assert (
        f"- {cold}: the programs alone, from the unpacked tree with warm pages, take 0.62 of that side's "
        "time, so no file system comes below 0.5. To the programs' time, lazyfs adds 0.33 of what that "
        "side adds."
    ) in text
    assert (
        f"| {DIRECT} | 14.00 (14.00 to 14.00) | 1.40 | 12.00 (12.00 to 12.00) | 2.00 | 2.00 | 0.75 |" in text
    )
    assert f"| {DIRECT} | 1,000 | 0 |  | 1,000 | 50, 200 | 0 | 1,000 | 25% | 500 | 7 |" in text
    assert f"| {SQUASHFUSE} | 1,000 | 0 |  | 1,000 | 50, 200 | 0 | 1,000 |  |  |  |" in text


def test_what_is_reached_has_no_reason_to_tell() -> None:
    replaced = [
        msgspec.structs.replace(case, cold=[starts(10, 20)])
        if case.side in (SQUASHFUSE, SQUASHFUSE_GZIP)
        else case
        for case in result(direct_warm=12, direct_cold=14).cases
    ]
    made = msgspec.structs.replace(result(direct_warm=12, direct_cold=14), cases=replaced)
    assert [bound.reached for bound in bounds(made)] == [True, True, True]
    assert not any(line.startswith("- ") for line in tables(made))


@pytest.mark.parametrize(
    ("program", "held"), [("while True: pass", 1.0), ("import sys; sys.stdin.read()", 0.0)]
)
def test_the_lock_of_another_process_is_seen(program: str, held: float) -> None:
    command = [sys.executable, "-c", f"print(flush=True)\n{program}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            # The first sample may find the process between its line of output and its last instruction.
            assert held in (sample(process.pid) for _ in range(1000))
        finally:
            process.kill()


def sample(pid: int) -> float:
    sampler = LockSampler(pid)
    sampler.start()
    return sampler.stop()[0]
